//! The `plugins` block: `Type "name" { enabled, plugin_data {} | plugin_data_file, … }`.
//!
//! Owns the wrapping only; a plugin's data is read by whoever has the plugin.

use std::collections::BTreeSet;
use std::path::Path;

use super::Document;
use super::section::{Located, Section, UnknownKeys};

/// Calls `see` with the name and data of each enabled plugin of the type, in the order of the file; data in a
/// `plugin_data_file` is read from there. Returns how many there were.
///
/// Faults: a plugin that stands there twice, a program of one's own (`plugin_cmd`), both kinds of data, a data file that can't be read (the message has
/// the words that scripts look for).
pub fn each_plugin(
    plugins: &Section<'_>,
    kind: &'static str,
    see: &mut dyn FnMut(&Located<String>, Section<'_>),
) -> usize {
    let mut count = 0;
    let mut seen = BTreeSet::new();
    for (name, block) in plugins.labelled(kind) {
        if !seen.insert(name.value.clone()) {
            let message = format!("plugin \"{kind}\"/{:?} declared more than once", name.value);
            plugins.report().fault(name.place.clone(), message);
        }
        if block.boolean("enabled") == Some(false) {
            block.discard();
            continue;
        }
        count += 1;
        if block.string("plugin_cmd").is_some() {
            block.fault("plugin_cmd", "external plugins are not supported by this version");
        }
        block.without_effect(&["plugin_args", "plugin_checksum"]);
        let data = block.block("plugin_data");
        match (block.string("plugin_data_file"), data) {
            (Some(_), Some(data)) => {
                block.fault("plugin_data_file", "excludes plugin_data");
                data.discard();
            }
            (Some(file), None) => match Document::load(Path::new(&file), None) {
                Ok(document) => see(&name, document.root(block.report())),
                Err(fault) if fault.place.position.line == 0 => {
                    let message = format!("failed to read plugin configuration: {}", fault.message);
                    block.fault("plugin_data_file", message);
                }
                Err(fault) => block.report().fault(fault.place, fault.message),
            },
            (None, Some(data)) => see(&name, data),
            (None, None) => see(&name, block.block_or_empty("plugin_data")),
        }
        block.finish(UnknownKeys::Warn);
    }
    count
}

/// Adds the fault for a plugin that this version doesn't have.
pub fn missing_plugin(plugins: &Section<'_>, kind: &str, name: &Located<String>, available: &[&str]) {
    let instead = match available {
        [] => "none of this type yet".to_owned(),
        some => format!("only {}", some.join(" and ")),
    };
    let message = format!(
        "{kind} plugin {:?} is not supported: this version has {instead}",
        name.value
    );
    plugins.report().fault(name.place.clone(), message);
}
