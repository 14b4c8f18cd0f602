//! The ways out beside Prometheus, each told of every measurement.

use std::sync::Arc;

use super::memory::Memory;
use super::metric::{Kind, Texts};
use super::packets::Packets;

/// The ways out beside Prometheus, which comes and reads.
#[derive(Default)]
pub(super) struct Sinks {
    pub(super) packets: Vec<Packets>,
    pub(super) memory: Option<Arc<Memory>>,
}

impl Sinks {
    pub(super) fn record(&self, kind: Kind, texts: &Texts, value: f64) {
        for packets in &self.packets {
            packets.send(kind, texts, value);
        }
        if let Some(memory) = &self.memory {
            memory.record(kind, &texts.flat, value);
        }
    }
}
