//! What the cache's work is called in SPIRE's metrics.

use super::distrust::{Distrusted, DistrustedTokens};
use super::shelf::EntryVersion;
use super::{Cache, CacheUpdate, Wanted};

impl Cache {
    /// Shows from now on how much is held.
    pub(super) fn show_sizes(&self) {
        let telemetry = self.telemetry();
        let show = |key, labels: &[_], size: fn(&Cache) -> usize| {
            let cache = self.clone();
            telemetry.poll_gauge(key, labels, move || float(size(&cache)));
        };
        let x509 = [("svid_type", "X509")];
        show("lru_cache_record_map_size", &x509, Cache::entry_count);
        show("lru_cache_svid_map_size", &x509, Cache::x509_svid_count);
        show("jwt_svid_cache_size", &[], Cache::jwt_svid_count);
        show("sync_entries_total", &[], Cache::entry_count);
        show("sync_bundles_total", &[], |cache| cache.federated().len() + 1);
        show("runtime.heap_objects", &[], |cache| {
            cache.entry_count() + cache.x509_svid_count() + cache.jwt_svid_count() + cache.wit.len()
        });
    }

    /// Counts what an update is about to change.
    pub(super) fn count_update(&self, update: &CacheUpdate) {
        let (mut added, mut changed) = (0_usize, 0);
        let removed = {
            let state = self.lock();
            for entry in &update.entries {
                match state.entries.get(&entry.id) {
                    None => added += 1,
                    Some(held) if EntryVersion::of(held) != EntryVersion::of(entry) => changed += 1,
                    Some(_) => {}
                }
            }
            let held = |id: &&_| state.entries.get(id).is_some();
            update.removed_entries.iter().filter(held).count()
        };
        let telemetry = self.telemetry();
        for (count, counter, gauge) in [
            (added, "lru_cache_entry_add", "sync_entries_missing"),
            (changed, "lru_cache_entry_update", "sync_entries_stale"),
            (removed, "lru_cache_entry_remove", "sync_entries_dropped"),
        ] {
            telemetry.count(counter, u64::try_from(count).unwrap_or(u64::MAX));
            telemetry.gauge(gauge, float(count));
        }
    }

    /// Drops the tokens of authorities that aren't to be relied on any more.
    pub(super) fn distrust_tokens(&self, distrusted: DistrustedTokens) {
        self.count_distrusted(distrusted.jwt);
        let before = self.wit.len();
        self.wit.distrust(distrusted.wit);
        if self.wit.len() < before {
            // Streams that looked in between have seen the old ones.
            let state = self.lock();
            state.subscribers.wake(state.subscribers.iter().map(|(id, _)| id));
        }
    }

    fn count_distrusted(&self, distrusted: Distrusted) {
        let telemetry = self.telemetry();
        if distrusted.newly_tainted.is_empty() || !telemetry.is_on() {
            return self.jwt.distrust(distrusted);
        }
        let counted = telemetry.counted("cache_manager.workload.process_tainted_jwt_svids");
        let before = self.jwt.len();
        self.jwt.distrust(distrusted);
        drop(counted);
        let dropped = before.saturating_sub(self.jwt.len());
        telemetry.sample("cache_manager.tainted_jwt_svids.workload", float(dropped));
    }

    /// Counts what is about to be asked for.
    pub(crate) fn count_wanted(&self, wanted: &[Wanted]) {
        let expiring = wanted.iter().filter(|wanted| wanted.expires_at.is_some()).count();
        let telemetry = self.telemetry();
        if telemetry.is_on() {
            telemetry.sample("cache_manager.expiring_svids", float(expiring));
            telemetry.sample("cache_manager.outdated_svids", float(wanted.len() - expiring));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are never 2^53 of them")]
fn float(count: usize) -> f64 {
    count as f64
}
