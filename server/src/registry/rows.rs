//! A set of rows under one key of an index. Most keys have one row, some have 100,000.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::store::Row;

/// One or more rows, in order.
#[derive(Debug)]
pub(super) enum Rows {
    One(Row),
    Many(BTreeSet<Row>),
}

impl Rows {
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        let (one, many) = match self {
            Rows::One(row) => (Some(*row), None),
            Rows::Many(rows) => (None, Some(rows)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Rows::One(_) => 1,
            Rows::Many(rows) => rows.len(),
        }
    }
}

/// Adds a row under a key.
pub(super) fn insert<K: Hash + Eq>(index: &mut HashMap<K, Rows>, key: K, row: Row) {
    match index.entry(key).or_insert(Rows::One(row)) {
        Rows::Many(rows) => {
            rows.insert(row);
        }
        Rows::One(held) if *held == row => {}
        one @ Rows::One(_) => {
            let held = one.iter().chain([row]).collect();
            *one = Rows::Many(held);
        }
    }
}

/// Removes a row from under a key.
pub(super) fn remove<K: Hash + Eq>(index: &mut HashMap<K, Rows>, key: &K, row: Row) {
    let emptied = match index.get_mut(key) {
        Some(Rows::Many(rows)) => {
            rows.remove(&row);
            rows.is_empty()
        }
        Some(Rows::One(held)) => *held == row,
        None => false,
    };
    if emptied {
        index.remove(key);
    }
}

/// The rows under a key, in order; none if there is no such key.
pub(super) fn at<K: Hash + Eq>(index: &HashMap<K, Rows>, key: &K) -> impl Iterator<Item = Row> {
    index.get(key).into_iter().flat_map(Rows::iter)
}
