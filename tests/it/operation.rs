//! What administrators rely on: the program's own commands, its limits, its logs, and how it starts and fails.

mod config;
mod limits;
mod logs;
