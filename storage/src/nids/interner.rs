//! One kind of string: its numbers, its names, and the caches of both.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use quick_cache::sync::Cache;
use tokio_postgres::{
    Row,
    types::{FromSqlOwned, ToSql},
};

use super::ranges::Range;
use crate::{
    Storage,
    error::StorageError,
    row::{Columns, Number, plain},
};

/// The statements that differ between kinds.
pub(super) struct Statements {
    pub(super) kind: &'static str,
    pub(super) find: &'static str,
    pub(super) name: &'static str,
    pub(super) add: &'static str,
}

pub(super) struct Interner<N> {
    statements: Statements,
    table: &'static str,
    numbers: Cache<Arc<str>, N>,
    names: Cache<N, Arc<str>>,
    range: Range,
}

impl<N> Interner<N>
where
    N: Number<Plain: TryFrom<i64> + FromSqlOwned + ToSql + Sync> + Hash + Eq + Send + Sync,
{
    pub(super) fn new(statements: Statements, table: &'static str, capacity: usize, step: i64) -> Self {
        Self {
            range: Range::new(statements.kind, step),
            statements,
            table,
            numbers: Cache::new(capacity),
            names: Cache::new(capacity),
        }
    }

    /// The numbers of these strings, in order, `None` for unknown ones.
    pub(super) async fn find(
        &self,
        storage: &Storage,
        names: &[&str],
    ) -> Result<Vec<Option<N>>, StorageError> {
        let mut known: HashMap<&str, N> = HashMap::new();
        let missing = self.look_up(names, &mut known);
        if !missing.is_empty() {
            self.query_numbers(storage, &missing, &mut known).await?;
        }
        Ok(names.iter().map(|name| known.get(name).copied()).collect())
    }

    /// The numbers of these strings, in order. Unknown ones are added, in a statement that is committed when this
    /// returns.
    pub(super) async fn intern(&self, storage: &Storage, names: &[&str]) -> Result<Vec<N>, StorageError> {
        let mut known: HashMap<&str, N> = HashMap::new();
        let mut missing = self.look_up(names, &mut known);
        if !missing.is_empty() {
            self.query_numbers(storage, &missing, &mut known).await?;
            missing.retain(|name| !known.contains_key(name));
        }
        if !missing.is_empty() {
            self.add(storage, &missing).await?;
            // Another task may have been faster, so what counts is what the table says.
            self.query_numbers(storage, &missing, &mut known).await?;
        }
        let number = |name: &&str| {
            known.get(name).copied().ok_or_else(|| {
                StorageError::corrupt(self.table, format_args!("{name:?} is missing after it was added"))
            })
        };
        names.iter().map(number).collect()
    }

    /// The strings with these numbers, in order.
    pub(super) async fn names(&self, storage: &Storage, nids: &[N]) -> Result<Vec<Arc<str>>, StorageError> {
        let mut known: HashMap<N, Arc<str>> = HashMap::new();
        let mut missing = Vec::new();
        for nid in nids {
            match self.names.get(nid) {
                Some(name) => drop(known.insert(*nid, name)),
                None => missing.push(*nid),
            }
        }
        if !missing.is_empty() {
            let db = storage.get().await?;
            let statement = db.prepare_cached(self.statements.name).await?;
            let numbers = plain(&missing);
            for row in db.query(&statement, &[&numbers]).await? {
                let (nid, name) = self.remember(&row)?;
                known.insert(nid, name);
            }
        }
        let name = |nid: &N| {
            known
                .get(nid)
                .cloned()
                .ok_or_else(|| StorageError::corrupt(self.table, format_args!("{} has no row", nid.plain())))
        };
        nids.iter().map(name).collect()
    }

    /// Takes what the cache knows. The rest, each once.
    fn look_up<'n>(&self, names: &[&'n str], known: &mut HashMap<&'n str, N>) -> Vec<&'n str> {
        let mut missing = Vec::new();
        for name in names {
            match self.numbers.get(*name) {
                Some(nid) => drop(known.insert(name, nid)),
                None => missing.push(*name),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    async fn query_numbers<'n>(
        &self,
        storage: &Storage,
        names: &[&'n str],
        known: &mut HashMap<&'n str, N>,
    ) -> Result<(), StorageError> {
        let db = storage.get().await?;
        let statement = db.prepare_cached(self.statements.find).await?;
        let bytes: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let rows = db.query(&statement, &[&bytes]).await?;
        let found: HashMap<Arc<str>, N> = rows
            .iter()
            .map(|row| self.remember(row).map(|(nid, name)| (name, nid)))
            .collect::<Result<_, _>>()?;
        known.extend(names.iter().filter_map(|name| Some((*name, *found.get(*name)?))));
        Ok(())
    }

    async fn add(&self, storage: &Storage, names: &[&str]) -> Result<(), StorageError> {
        let nids: Vec<N> = self.range.take(storage, names.len()).await?;
        let db = storage.get().await?;
        let statement = db.prepare_cached(self.statements.add).await?;
        let bytes: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let numbers = plain(&nids);
        db.execute(&statement, &[&numbers, &bytes]).await?;
        Ok(())
    }

    fn remember(&self, row: &Row) -> Result<(N, Arc<str>), StorageError> {
        let columns = Columns::of(self.table, row);
        let (nid, name): (N, Arc<str>) = (columns.nid("nid")?, columns.bytes_text("name")?.into());
        self.numbers.insert(Arc::clone(&name), nid);
        self.names.insert(nid, Arc::clone(&name));
        Ok((nid, name))
    }
}
