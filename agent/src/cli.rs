//! The workload-side commands.
