//! Every SQL statement of the server prepares against a migrated database.

use crate::support::database::Database;

#[tokio::test]
async fn every_statement_prepares() {
    let database = Database::fresh().await;
    let storage = database.storage().await;
    let client = storage.get().await.expect("the cluster runs");
    let mut broken = Vec::new();
    for statement in myelin_storage::statements::all() {
        if let Err(error) = client.prepare(statement.sql).await {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            broken.push(format!("{}::{}: {why}", statement.module, statement.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test]
async fn second_run_of_the_migrations_does_nothing() {
    let database = Database::fresh().await;
    let done = database.storage().await.migrate().await.expect("the migrations are unchanged");
    assert_eq!(done, 0);
}

#[tokio::test]
async fn what_was_claimed_is_found_without_looking_at_every_key() {
    let database = Database::fresh().await;
    let storage = database.storage().await;
    let client = storage.get().await.expect("the cluster runs");
    let mut all = myelin_storage::statements::all();
    let forget = all.find(|statement| statement.name == "FORGET_CLAIMED").expect("there is one");
    let plan = format!("SET enable_seqscan = off; EXPLAIN {}", forget.sql.replace("$1", "0"));
    let plan = client.simple_query(&plan).await.expect("explained");
    assert!(format!("{plan:?}").contains("one_time_keys_claimed"), "{plan:?}");
}
