//! Reading a job: spiffe-helper's keys with its defaults, and ours beside them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use credence_identity::SpiffeId;
use credence_runtime::config::{Document, Fault, HealthChecks, Report, Section, UnknownKeys};
use nix::sys::signal::Signal;

use super::arguments::split;
use super::{Choice, Helper, HookSettings, Job, Named, StoreFile, StoreForm, TokenFile, X509Files};
use crate::files::owner::Owner;
use crate::files::target::Target;

/// The port of the probes when none is named.
const HEALTH_PORT: u16 = 8081;
/// Longer ones leave no room for what is put around them while they are written.
const LONGEST_NAME: usize = 200;

/// Modes of the files, as they were asked for.
struct Modes {
    cert: u32,
    key: u32,
    jwt_bundle: u32,
    token: u32,
}

/// Reads a file as spiffe-helper has it.
///
/// # Errors
/// All faults of the file at once, each with its place.
pub(crate) fn read_helper(path: &Path) -> Result<(Helper, Vec<Fault>), Vec<Fault>> {
    let document = Document::load(path, None).map_err(|fault| vec![fault])?;
    let report = Report::new();
    let root = document.root(&report);
    let helper = helper(&root);
    root.finish(UnknownKeys::Fatal);
    report.finish(&path.display().to_string(), helper)
}

fn helper(root: &Section<'_>) -> Option<Helper> {
    let daemon_mode = root.boolean("daemon_mode").unwrap_or(true);
    let agent_address = root.string("agent_address");
    let health_checks = health_checks(root);
    let folder = PathBuf::from(root.string("cert_dir").unwrap_or_default());
    let job = job(root, "files", folder, false)?;
    if !daemon_mode {
        if job.hooks.pid_file.is_some() {
            root.fault("pid_file_name", "needs daemon_mode");
        }
        for (key, set) in [
            ("cmd", job.hooks.command.is_some()),
            ("renew_signal", job.hooks.signal.is_some()),
            ("renew_url", job.hooks.url.is_some()),
        ] {
            if set {
                root.warn(key, "has no effect without daemon_mode");
            }
        }
    }
    Some(Helper {
        job,
        agent_address,
        daemon_mode,
        health_checks,
    })
}

/// Reads a `files` block of the agent's configuration.
pub(crate) fn read_block(label: &str, block: Section<'_>) -> Option<Job> {
    let spiffe_id = block.required("spiffe_id");
    let folder = block.required("cert_dir").map(PathBuf::from);
    if folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
        block.fault("cert_dir", "must be an absolute path");
    }
    let job = job(&block, label, folder.clone().unwrap_or_default(), true);
    block.finish(UnknownKeys::Fatal);
    spiffe_id.and(folder).and(job)
}

fn job(section: &Section<'_>, name: &str, folder: PathBuf, is_block: bool) -> Option<Job> {
    let modes = Modes {
        cert: mode(section, "cert_file_mode", 0o644),
        key: mode(section, "key_file_mode", 0o600),
        jwt_bundle: mode(section, "jwt_bundle_file_mode", 0o600),
        token: mode(section, "jwt_svid_file_mode", 0o600),
    };
    let choice = Choice {
        spiffe_id: section.parsed::<SpiffeId>("spiffe_id"),
        hint: section.string("hint").unwrap_or_default(),
    };
    let owner = match section.string("owner") {
        Some(text) => Owner::parse(&text)
            .map_err(|error| section.fault("owner", error))
            .ok(),
        None => Some(Owner::this_process()),
    };
    let x509 = x509(section, &modes);
    let jwt_bundle = file(section, "jwt_bundle_file_name", modes.jwt_bundle);
    let tokens = tokens(section, modes.token);
    let hooks = hooks(section, !is_block);
    if x509.is_none() && jwt_bundle.is_none() && tokens.is_empty() {
        let message = "names no file: give all of svid_file_name, svid_key_file_name and svid_bundle_file_name, or one of \
                       svid_combined_file_name, pkcs12_file_name, jks_file_name, jwt_svids and jwt_bundle_file_name";
        section
            .report()
            .fault(section.place().clone(), message.to_owned());
    }
    let job = Job {
        name: name.to_owned(),
        choice,
        target: Target {
            folder,
            owner: owner?,
            guarded: is_block,
        },
        x509,
        jwt_bundle,
        tokens,
        hooks,
    };
    refuse_repeats(section, &job);
    Some(job)
}

fn x509(section: &Section<'_>, modes: &Modes) -> Option<X509Files> {
    let svid = file(section, "svid_file_name", modes.cert);
    let key = file(section, "svid_key_file_name", modes.key);
    let bundle = file(section, "svid_bundle_file_name", modes.cert);
    let combined = file(section, "svid_combined_file_name", modes.key);
    let files = X509Files {
        intermediates_in_bundle: section.boolean("add_intermediates_to_bundle").unwrap_or(false),
        federated: section.boolean("include_federated_domains").unwrap_or(false),
        omit_expired: section.boolean("omit_expired").unwrap_or(false),
        pair: None,
        bundle,
        combined,
        stores: stores(section, modes.key),
    };
    let in_one = files.combined.is_some() || !files.stores.is_empty();
    let pair = match (svid, key) {
        (Some(svid), Some(key)) if files.bundle.is_some() => Some((svid, key)),
        (None, None) if files.bundle.is_none() || in_one => None,
        _ => {
            let message =
                "all or none of svid_file_name, svid_key_file_name and svid_bundle_file_name must be given";
            section
                .report()
                .fault(section.place().clone(), message.to_owned());
            None
        }
    };
    (pair.is_some() || in_one).then_some(X509Files { pair, ..files })
}

fn stores(section: &Section<'_>, mode: u32) -> Vec<StoreFile> {
    let password_file = section.string("keystore_password_file").map(PathBuf::from);
    let forms = [
        ("pkcs12_file_name", StoreForm::Pkcs12),
        ("jks_file_name", StoreForm::Jks),
    ];
    let mut stores = Vec::new();
    for (key, form) in forms {
        let Some(file) = file(section, key, mode) else {
            continue;
        };
        match password_file.clone() {
            Some(password_file) => stores.push(StoreFile {
                file,
                form,
                password_file,
            }),
            None => section.fault(key, "needs keystore_password_file"),
        }
    }
    stores
}

fn tokens(section: &Section<'_>, mode: u32) -> Vec<TokenFile> {
    let mut all = Vec::new();
    for block in section.each_block("jwt_svids") {
        let file = block
            .required("jwt_svid_file_name")
            .and_then(|_| file(&block, "jwt_svid_file_name", mode));
        let audience = block.required("jwt_audience");
        let extra = block.strings("jwt_extra_audiences").into_iter();
        let extra: Vec<String> = extra.map(|text| text.value).collect();
        block.finish(UnknownKeys::Fatal);
        if let (Some(file), Some(audience)) = (file, audience) {
            let audience = std::iter::once(audience).chain(extra).collect();
            all.push(TokenFile { file, audience });
        }
    }
    all
}

fn hooks(section: &Section<'_>, inherit: bool) -> HookSettings {
    let arguments = section.string("cmd_args").unwrap_or_default();
    let arguments = split(&arguments).map_err(|error| section.fault("cmd_args", error));
    let arguments = arguments.unwrap_or_default().into_iter().map(OsString::from);
    let command = section.string("cmd").map(OsString::from);
    let signal = section.string("renew_signal").and_then(|name| {
        let signal = Signal::from_str(&name);
        let fault = |_| {
            section.fault(
                "renew_signal",
                format_args!("{name:?} is no signal such as \"SIGHUP\""),
            )
        };
        signal.map_err(fault).ok()
    });
    let pid_file = section.string("pid_file_name").map(PathBuf::from);
    if pid_file.is_some() && signal.is_none() {
        section.fault("pid_file_name", "needs renew_signal");
    }
    let url = section.string("renew_url");
    if let Some(url) = &url
        && !(url.starts_with("http://") || url.starts_with("https://"))
    {
        section.fault("renew_url", "must begin with \"http://\" or \"https://\"");
    }
    HookSettings {
        command: command.map(|command| (command, arguments.collect())),
        signal,
        pid_file,
        url,
        inherit,
    }
}

fn health_checks(root: &Section<'_>) -> Option<HealthChecks> {
    let block = root.block("health_checks")?;
    let enabled = block.boolean("listener_enabled").unwrap_or(false);
    let path = |key, default: &str| block.string(key).unwrap_or_else(|| default.to_owned());
    let checks = HealthChecks {
        bind_address: block.string("bind_address").unwrap_or_else(|| "::".to_owned()),
        bind_port: match block.number("bind_port") {
            None | Some(0) => HEALTH_PORT,
            Some(port) => port,
        },
        live_path: path("liveness_path", "/live"),
        ready_path: path("readiness_path", "/ready"),
    };
    block.finish(UnknownKeys::Fatal);
    enabled.then_some(checks)
}

/// A mode; 0 counts as none. Decimal digits are taken as the decimal number that they are, as spiffe-helper does, but
/// somebody is told of it.
fn mode(section: &Section<'_>, key: &'static str, default: u32) -> u32 {
    let mode = match section.number::<u32>(key) {
        None | Some(0) => return default,
        Some(mode) => mode,
    };
    let written = section.string(key).unwrap_or_default();
    if !written.starts_with('0') {
        section.warn(
            key,
            format_args!(
                "{written} is a decimal number, mode {:04o}: octal ones begin with 0",
                mode & 0o777
            ),
        );
    } else if mode > 0o777 {
        section.fault(key, format_args!("{written} is no mode of a file"));
    }
    mode & 0o777
}

/// A name below the target folder. As with spiffe-helper a `/` before it means nothing.
fn file(section: &Section<'_>, key: &'static str, mode: u32) -> Option<Named> {
    let written = section.string(key)?;
    let mut name = PathBuf::new();
    for component in Path::new(&written).components() {
        match component {
            Component::Normal(part) if part.len() <= LONGEST_NAME => name.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::Normal(_) | Component::ParentDir | Component::Prefix(_) => {
                section.fault(
                    key,
                    format_args!("{written:?} is no name of a file below cert_dir"),
                );
                return None;
            }
        }
    }
    if name.as_os_str().is_empty() || written.ends_with('/') || name.as_os_str().len() > LONGEST_NAME {
        section.fault(key, format_args!("{written:?} is no name of a file"));
        return None;
    }
    Some(Named { name, mode })
}

fn refuse_repeats(section: &Section<'_>, job: &Job) {
    let x509 = job.x509.iter().flat_map(|files| {
        let pair = files.pair.iter().flat_map(|(svid, key)| [svid, key]);
        let stores = files.stores.iter().map(|store| &store.file);
        pair.chain(&files.bundle).chain(&files.combined).chain(stores)
    });
    let tokens = job.tokens.iter().map(|token| &token.file);
    let mut seen = BTreeSet::new();
    for file in x509.chain(&job.jwt_bundle).chain(tokens) {
        if !seen.insert(&file.name) {
            let message = format!("{} is the name of two files", file.name.display());
            section.report().fault(section.place().clone(), message);
        }
    }
}
