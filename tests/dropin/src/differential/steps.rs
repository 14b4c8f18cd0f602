//! The grammar of a table of steps.
//!
//! ```text
//! # a comment
//! @server ca_ttl = "12h"                     a line for the server block of both sides
//! @agent x509_svid_cache_max_size = 8        an agent of each make runs on each side, with that line in its block
//! @callers Agent Entry !RenewAgent           each method of these services with an empty request, by each caller
//! @audit                                     each transcript has the lines that the call left in the audit log
//! @metrics                                   server and agent have a Prometheus endpoint
//! == a title
//! local Entry/GetEntry {"id": "x"}           CALLER SERVICE/METHOD REQUEST, JSON that may go on over lines
//! $ entry show -entryID x << input           a server command, with what it reads
//! % api fetch x509                           an agent command
//! validate server : key = 1                  a configuration file with that line added to a block
//! x509pop anonymous rsa short                a node attests: by which caller, certificate, and fault of its proof
//! talk public SERVICE/METHOD [MESSAGE, …]     a stream both ways, each message after the answer to the last (`talk`)
//! metrics server                             the names of all series with their labels, `server` or `agent`
//! pause 1100                                 milliseconds
//!   -> name = answers.0.id                   what later steps may write as ${name}
//!   id = "y" ; output_mask = {}              the same call again with members changed
//!   **                                       and again with each field wrong in turn, those of nested messages too
//!   ! id=* @ message : words of the reason   a difference: changes, path in the transcript, and why
//! !! message : words of the reason           the same for all steps of the file
//! ```
//!
//! The caller `each` is every one in turn, those who may do least first, and each of them with the variations, whose names
//! begin with the caller's.
//!
//! A call that ends in `until N` is repeated until its answer has a list of N items, a command until it exits with N: both
//! makes learn of some changes with a delay.
//!
//! In requests `@/path` is a SPIFFE ID of the trust domain, `%type:value` a selector, `$n` the number of the step.
//! A reason is a piece of a line of `docs/differences-from-spire.md`, or `text` where both say the same thing and only the
//! words differ, as where SPIRE quotes a library.

use serde_json::Value;

use super::{call, vary};

/// The variation pattern of a difference that may stand at any step.
pub(super) const EVERYWHERE: &str = "(any step)";

/// The caller that stands for everyone.
const EACH: &str = "each";

/// Everyone who may call, those who may do least first.
const EVERYONE: &[&str] = &[
    "anonymous",
    "workload",
    "evicted",
    "banned",
    "downstream",
    "agent",
    "admin",
    "local",
];

/// A file of steps.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) name: String,
    /// Lines for the `server` block.
    pub(super) server: String,
    /// Lines for the `agent` block, if an agent runs on each side.
    pub(super) agent: Option<String>,
    /// Whether an agent that was banned and one that was evicted are among the callers.
    pub(super) outcasts: bool,
    pub(super) audit: bool,
    pub(super) metrics: bool,
    pub(super) groups: Vec<Group>,
    /// Differences that may stand at any step.
    pub(super) allowed: Vec<Allowed>,
}

/// One step and its variations.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Where it stands: file, line, title.
    pub(super) place: String,
    pub(super) action: Action,
    /// What ends its repetition.
    pub(super) until: Option<usize>,
    /// Captures: name, path in the transcript of the step itself.
    pub(super) captures: Vec<(String, String)>,
    pub(super) variants: Vec<Variant>,
    pub(super) allowed: Vec<Allowed>,
}

/// What is done.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Call {
        caller: String,
        method: String,
        request: Value,
    },
    Command {
        agent: bool,
        words: Vec<String>,
        input: String,
    },
    Pause(u64),
    Prove {
        caller: String,
        certificate: String,
        fault: String,
    },
    Metrics(String),
    Talk {
        caller: String,
        method: String,
        messages: Vec<Value>,
    },
    Validate {
        block: String,
        lines: String,
    },
}

/// Members of a request that are changed.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) label: String,
    pub(super) changes: Vec<(String, Option<Value>)>,
}

/// A difference with its reason.
#[derive(Debug, Clone)]
pub(super) struct Allowed {
    /// Pattern of the variation's label; the step itself has an empty one.
    pub(super) variant: String,
    /// Pattern of the path in the transcript.
    pub(super) path: String,
    pub(super) reason: String,
    pub(super) place: String,
}

/// One thing to do on both sides.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) place: String,
    pub(super) label: String,
    pub(super) action: Action,
    pub(super) until: Option<usize>,
    pub(super) captures: Vec<(String, String)>,
}

impl Group {
    /// The step itself and each of its variations, by each caller.
    pub(super) fn steps(&self) -> Vec<Step> {
        let of_one = self.of_one_caller();
        if !of_one.iter().any(|step| step.action.is_by(EACH)) {
            return of_one;
        }
        let by = |caller: &str| {
            let named = of_one.iter().cloned().map(|mut step| {
                step.label = format!("{caller} {}", step.label).trim_end().to_owned();
                if let Action::Call { caller: whose, .. } = &mut step.action {
                    caller.clone_into(whose);
                }
                step
            });
            named.collect::<Vec<_>>()
        };
        EVERYONE.iter().copied().flat_map(by).collect()
    }

    fn of_one_caller(&self) -> Vec<Step> {
        let itself = Step {
            place: self.place.clone(),
            label: String::new(),
            action: self.action.clone(),
            until: self.until,
            captures: self.captures.clone(),
        };
        let varied = self.variants.iter().map(|variant| Step {
            place: self.place.clone(),
            label: variant.label.clone(),
            action: changed(&self.action, variant),
            until: None,
            captures: Vec::new(),
        });
        std::iter::once(itself).chain(varied).collect()
    }
}

impl Action {
    fn is_by(&self, name: &str) -> bool {
        matches!(self, Self::Call { caller, .. } | Self::Prove { caller, .. } if caller == name)
    }
}

fn changed(action: &Action, variant: &Variant) -> Action {
    let Action::Call {
        caller,
        method,
        request,
    } = action
    else {
        panic!("only a call can be varied: {}", variant.label)
    };
    let mut request = request.clone();
    for (path, value) in &variant.changes {
        set(&mut request, path, value.clone());
    }
    Action::Call {
        caller: caller.clone(),
        method: method.clone(),
        request,
    }
}

/// Sets or removes the member at `path`, making the objects on the way.
fn set(target: &mut Value, path: &str, value: Option<Value>) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let slot = match first.parse::<usize>() {
        Ok(index) => {
            let items = target.as_array_mut().expect("an index into an array");
            while items.len() <= index {
                items.push(Value::Object(serde_json::Map::new()));
            }
            items.get_mut(index).expect("was made")
        }
        Err(_) => {
            if !target.is_object() {
                *target = Value::Object(serde_json::Map::new());
            }
            let members = target.as_object_mut().expect("an object");
            if rest.is_none() && value.is_none() {
                members.remove(first);
                return;
            }
            members.entry(first).or_insert(Value::Null)
        }
    };
    match rest {
        Some(rest) => set(slot, rest, value),
        None => *slot = value.unwrap_or(Value::Null),
    }
}

/// Reads a table.
pub(super) fn parse(name: &str, text: &str) -> Table {
    let mut table = Table {
        name: name.to_owned(),
        ..Table::default()
    };
    let mut title = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let place = format!("{name}.steps:{} ({title})", number + 1);
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            detail(bare, &place, &mut table);
            continue;
        }
        if let Some(rest) = bare.strip_prefix("== ") {
            rest.clone_into(&mut title);
        } else if let Some(rest) = bare.strip_prefix("@server ") {
            table.server.push_str(rest);
            table.server.push('\n');
        } else if let Some(lines) = bare.strip_prefix("@agent") {
            table.agent = Some(lines.trim().to_owned());
        } else if bare == "@audit" {
            table.audit = true;
        } else if bare == "@metrics" {
            table.metrics = true;
        } else if let Some(services) = bare.strip_prefix("@callers ") {
            let (spared, services): (Vec<&str>, Vec<&str>) = services
                .split_whitespace()
                .partition(|word| word.starts_with('!'));
            for method in services.into_iter().flat_map(call::methods) {
                if spared
                    .iter()
                    .any(|spared| method.ends_with(&format!("/{}", spared.trim_start_matches('!'))))
                {
                    continue;
                }
                table.groups.push(Group {
                    place: format!("{place} {method}"),
                    action: action(&format!("{EACH} {method} {{}}")),
                    until: None,
                    captures: Vec::new(),
                    variants: Vec::new(),
                    allowed: Vec::new(),
                });
            }
        } else if let Some(rest) = bare.strip_prefix("!! ") {
            table.allowed.push(Allowed {
                variant: EVERYWHERE.to_owned(),
                ..allowed(rest, &place)
            });
        } else {
            let mut whole = bare.to_owned();
            // A request goes on until its braces are closed.
            while !closed(&whole) {
                let (_, more) = lines.next().expect("the rest of a request");
                whole.push(' ');
                whole.push_str(more.trim());
            }
            let (what, until) = match whole.rsplit_once(" until ") {
                Some((what, times)) => (what, Some(times.parse().expect("a number"))),
                None => (whole.as_str(), None),
            };
            table.groups.push(Group {
                action: action(what),
                until,
                place,
                captures: Vec::new(),
                variants: Vec::new(),
                allowed: Vec::new(),
            });
        }
    }
    let outcasts = [EACH, "banned", "evicted"];
    table.outcasts = table
        .groups
        .iter()
        .any(|group| outcasts.iter().any(|name| group.action.is_by(name)));
    table
}

fn closed(text: &str) -> bool {
    let bare = ["$", "%", "pause ", "validate ", "x509pop ", "metrics "];
    if bare.iter().any(|start| text.starts_with(start)) {
        return true;
    }
    let count = |c| text.matches(c).count();
    count('{') == count('}') && count('[') == count(']')
}

fn detail(text: &str, place: &str, table: &mut Table) {
    let group = table.groups.last_mut().expect("a step before its details");
    if let Some(rest) = text.strip_prefix("-> ") {
        let (name, path) = rest.split_once('=').expect("NAME = PATH");
        group
            .captures
            .push((name.trim().to_owned(), path.trim().to_owned()));
    } else if let Some(rest) = text.strip_prefix("! ") {
        group.allowed.push(allowed(rest, place));
    } else if let Some(rest) = text.strip_prefix("**") {
        let Action::Call { method, request, .. } = &group.action else {
            panic!("only a call has fields: {place}")
        };
        let spared: Vec<&str> = rest.split_whitespace().collect();
        let wrong = vary::each_field_wrong(method, request, &spared);
        group.variants.extend(wrong);
    } else {
        let changes: Vec<(String, Option<Value>)> = text
            .split(" ; ")
            .map(|change| {
                let (path, value) = change
                    .split_once('=')
                    .unwrap_or_else(|| panic!("{place}: {change}"));
                let value = value.trim();
                let value = (value != "unset").then(|| json(value));
                (path.trim().to_owned(), value)
            })
            .collect();
        group.variants.push(Variant {
            label: label(&changes),
            changes,
        });
    }
}

/// How a variation is named: `path=value` without spaces.
pub(super) fn label(changes: &[(String, Option<Value>)]) -> String {
    let mut words: Vec<String> = Vec::new();
    for (path, value) in changes {
        let value = value.as_ref().map_or("unset".to_owned(), Value::to_string);
        let short: String = value.chars().filter(|c| !c.is_whitespace()).take(60).collect();
        words.push(format!("{path}={short}"));
    }
    words.join(";")
}

fn allowed(text: &str, place: &str) -> Allowed {
    let (before, reason) = text
        .rsplit_once(" : ")
        .unwrap_or_else(|| panic!("{place}: no reason in {text}"));
    let (variant, path) = match before.split_once("@ ") {
        Some((variant, path)) => (variant.trim(), path.trim()),
        None => ("", before.trim()),
    };
    Allowed {
        variant: variant.to_owned(),
        path: path.to_owned(),
        reason: reason.trim().to_owned(),
        place: place.to_owned(),
    }
}

fn action(text: &str) -> Action {
    if let Some(rest) = text.strip_prefix("validate ") {
        let (block, lines) = rest.split_once(" :").expect("BLOCK : LINES");
        return Action::Validate {
            block: block.trim().to_owned(),
            lines: lines.trim().to_owned(),
        };
    }
    if let Some(rest) = text.strip_prefix("talk ") {
        let (caller, rest) = rest.split_once(' ').expect("talk CALLER METHOD MESSAGES");
        let (method, messages) = rest.split_once(' ').expect("talk CALLER METHOD MESSAGES");
        return Action::Talk {
            caller: caller.to_owned(),
            method: method.to_owned(),
            messages: json(messages.trim()).as_array().cloned().expect("messages"),
        };
    }
    if let Some(program) = text.strip_prefix("metrics ") {
        return Action::Metrics(program.trim().to_owned());
    }
    if let Some(rest) = text.strip_prefix("x509pop ") {
        let mut words = rest.split_whitespace().map(str::to_owned);
        let mut word = || words.next().expect("x509pop CALLER CERTIFICATE FAULT");
        return Action::Prove {
            caller: word(),
            certificate: word(),
            fault: word(),
        };
    }
    if let Some(rest) = text.strip_prefix("pause ") {
        return Action::Pause(rest.trim().parse().expect("milliseconds"));
    }
    if let Some(rest) = text.strip_prefix("$ ").or_else(|| text.strip_prefix("% ")) {
        let (line, input) = rest.split_once(" << ").unwrap_or((rest, ""));
        return Action::Command {
            agent: text.starts_with('%'),
            words: words(line),
            input: input.replace("\\n", "\n"),
        };
    }
    let (caller, rest) = text.split_once(' ').expect("CALLER METHOD REQUEST");
    let (method, request) = rest.split_once(' ').unwrap_or((rest, "{}"));
    Action::Call {
        caller: caller.to_owned(),
        method: method.to_owned(),
        request: json(request.trim()),
    }
}

/// A shell's words: blanks part them, single quotes hold them together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// JSON with the shorthands for SPIFFE IDs (`@/path`) and selectors (`%type:value`).
fn json(text: &str) -> Value {
    let mut plain = String::new();
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        let end = tail.find([',', ']', '}', ' ']).unwrap_or(tail.len());
        let (token, after) = tail.split_at(end);
        match c {
            '@' if !in_string => {
                plain
                    .push_str(&serde_json::json!({"trust_domain": "example.org", "path": token}).to_string());
                rest = after;
                continue;
            }
            '%' if !in_string => {
                let (kind, value) = token.split_once(':').expect("TYPE:VALUE");
                plain.push_str(&serde_json::json!({"type": kind, "value": value}).to_string());
                rest = after;
                continue;
            }
            '"' if !plain.ends_with('\\') => in_string = !in_string,
            _ => {}
        }
        plain.push(c);
        rest = tail;
    }
    serde_json::from_str(&plain).unwrap_or_else(|error| panic!("{error}: {plain}"))
}
