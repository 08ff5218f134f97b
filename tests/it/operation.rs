//! What administrators rely on: the program's own commands, its limits, its logs, and how it starts and fails.

mod bodies;
mod certificates;
mod config;
mod database;
mod limits;
mod logs;
mod sessions;
