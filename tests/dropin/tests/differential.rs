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
    callers,
    command_entry,
    command_other,
    entry,
    svid,
    workload
);
