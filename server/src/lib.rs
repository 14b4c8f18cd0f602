//! The server of a trust domain: certificate authority, registry and the APIs that agents and operators call.
pub mod api;
pub mod app;
pub mod attestor;
pub mod ca;
pub mod cli;
pub mod config;
mod explain;
mod holdings;
pub mod import;
pub mod keymanager;
pub mod registry;
pub mod store;
