//! EDUs of a batch that other servers must not miss.

use std::{borrow::Cow, collections::HashSet};

use myelin_core::position::Position;
use ruma::OwnedServerName;
use serde_json::value::RawValue;

use crate::{error::StorageError, pool::Transaction, row::text, statements::statements};

statements! {
    ADD_EDUS = "
        INSERT INTO outgoing_edus (position, edu_type, content)
        SELECT position, edu_type, content
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[]) AS new (position, edu_type, content)
    ",
    ADD_EDU_SERVERS = "
        INSERT INTO outgoing_edu_servers (server_name, position)
        SELECT server_name, position
        FROM   UNNEST($1::TEXT[], $2::BIGINT[]) AS new (server_name, position)
    ",
}

/// An EDU that is kept until each of these servers has acknowledged it. Those for one server reach it in the order
/// of their commits, and do not wait for the events of rooms.
#[derive(Clone, Debug)]
pub struct OutgoingEdu {
    /// Whom it is for. This server is not among them.
    pub servers: Vec<OwnedServerName>,
    /// Its type: `m.direct_to_device`, `m.device_list_update`, ...
    pub edu_type: String,
    /// Its content, a JSON object.
    pub content: Box<RawValue>,
}

#[derive(Default)]
pub(super) struct OutgoingRows<'a>(Vec<(&'a OutgoingEdu, Position)>);

impl<'a> OutgoingRows<'a> {
    pub(super) fn add(&mut self, edu: &'a OutgoingEdu, position: Position) {
        if !edu.servers.is_empty() {
            self.0.push((edu, position));
        }
    }

    pub(super) async fn add_edus(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let position: Vec<i64> = self.0.iter().map(|(_, position)| position.0).collect();
        let edu_type: Vec<Cow<'_, str>> = self.0.iter().map(|(edu, _)| text(&edu.edu_type)).collect();
        let content: Vec<&str> = self.0.iter().map(|(edu, _)| edu.content.get()).collect();
        let statement = transaction.prepare_cached(ADD_EDUS).await?;
        transaction.execute(&statement, &[&position, &edu_type, &content]).await?;
        Ok(())
    }

    pub(super) async fn add_servers(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (mut server, mut position) = (Vec::new(), Vec::new());
        for (edu, at) in &self.0 {
            for name in edu.servers.iter().collect::<HashSet<_>>() {
                server.push(name.as_str());
                position.push(at.0);
            }
        }
        let statement = transaction.prepare_cached(ADD_EDU_SERVERS).await?;
        transaction.execute(&statement, &[&server, &position]).await?;
        Ok(())
    }
}
