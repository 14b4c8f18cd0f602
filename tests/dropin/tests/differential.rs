//! The tables of `steps/`, one test each.

use credence_dropin::{differential, spire};

use crate::credence;

macro_rules! tables {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            let table = stringify!($name);
            if let Some(spire) = spire(&format!("differential, {table}")) {
                differential::run(table, &spire, &credence());
            }
        })+
    };
}

tables!(
    agent,
    audit,
    authority,
    bundle,
    callers,
    command_authority,
    command_entry,
    command_other,
    config_nojwt,
    config_p384,
    config_rsa,
    delegate,
    entry,
    metrics,
    sds,
    svid,
    trustdomain,
    validate_agent,
    validate_server,
    wit,
    workload,
    x509pop
);

/// The command line of each make administers the server of the other.
#[test]
fn each_command_line_administers_the_other_server() {
    let Some(spire) = spire("command lines") else {
        return;
    };
    for table in ["command_authority", "command_entry", "command_other"] {
        differential::administer(table, &spire, &credence());
    }
}
