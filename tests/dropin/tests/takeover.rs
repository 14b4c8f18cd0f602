//! Taking over: our server on the files of SPIRE's, our agent on the files of SPIRE's, and the way back.

mod agent;
mod records;
mod replaced;

use std::collections::BTreeMap;
use std::fs;

use credence_dropin::Site;

/// SPIRE's files in the server's folder, with their content.
fn spires_files(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let files = ["datastore.sqlite3", "datastore.sqlite3-wal", "keys.json"].into_iter();
    files
        .filter_map(|name| Some((name.to_owned(), fs::read(site.server_data().join(name)).ok()?)))
        .collect()
}
