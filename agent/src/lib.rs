//! The agent of a node: proves the host to the server, and serves identities to the workloads beside it.
pub mod api;
pub mod app;
pub mod attestor;
pub mod cache;
pub mod cli;
pub mod config;
pub mod explain;
pub mod files;
pub mod keymanager;
pub mod state;
pub mod sync;
