//! The `myelin` program: see [`myelin::commands`].

use std::process::ExitCode;

use clap::Parser;
use myelin::commands::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("myelin: {error:#}");
            ExitCode::from(2)
        }
    }
}
