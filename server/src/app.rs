//! Wires the server together.
