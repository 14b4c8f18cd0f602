//! Wires the agent together.
