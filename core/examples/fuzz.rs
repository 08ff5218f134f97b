//! Feeds what comes from other servers with changed forms of what is known to be interesting, for a bounded time.
//!
//! `cargo run --release --example fuzz -- [seconds for each target] [target]`. What makes a target panic is written into
//! its corpus, which the tests run through from then on.

#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "fuzz/targets.rs"]
mod targets;

use std::{
    env,
    fs::File,
    io::Write,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

/// Inputs never grow beyond this.
const MAX_BYTES: usize = 70_000;
/// Pieces that parsers look for.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-0",
    "1e999",
    "0.1",
    "9007199254740992",
    "-9223372036854775808",
    "18446744073709551616",
    "\u{0}",
    "\u{feff}",
    "é",
    "😀",
    "*",
    "?",
    "@",
    "!",
    "$",
    "#",
    "=",
    " ",
    "\t",
    "[::1]",
    ":65536",
    "m.room.member",
    "m.room.create",
    "state_key",
    "event_id",
    "room_id",
    "prev_events",
    "auth_events",
    "depth",
    "content",
    "hashes",
    "signatures",
    "unsigned",
    "\"\":{}",
    "origin=",
    "key=\"ed25519:1\"",
    "sig=\"AA\"",
    "destination=",
    "X-Matrix ",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let seconds = arguments.first().and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    let only = arguments.get(1);
    // A panic is what we look for; it is reported once, with its input.
    panic::set_hook(Box::new(|_| {}));
    let mut rng = StdRng::seed_from_u64(seed());
    let mut failures = 0;
    for (name, target) in targets::TARGETS {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let corpus = corpus::read(name);
        let (started, mut runs) = (Instant::now(), 0_u64);
        let mut failed = None;
        while failed.is_none() && started.elapsed() < Duration::from_secs(seconds) {
            let input = changed(&corpus, &mut rng);
            runs += 1;
            if panic::catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                failed = Some(input);
            }
        }
        match failed {
            None => println!("{name}: {runs} inputs, no panic"),
            Some(input) => {
                failures += 1;
                println!("{name}: panic after {runs} inputs, kept as {}", keep(name, &input).display());
            }
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Another one each time, told so that a run can be repeated.
fn seed() -> u64 {
    let seed = env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("FUZZ_SEED={seed}");
    seed
}

/// Adds an input to a corpus; the file.
fn keep(target: &str, input: &[u8]) -> PathBuf {
    let path = corpus::path(target);
    let line = format!("{}\n", input.escape_ascii());
    let written =
        File::options().append(true).open(&path).and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the corpus can be written");
    path
}

fn below(rng: &mut StdRng, limit: usize) -> usize {
    rng.random_range(0..limit.max(1))
}

fn changed(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[below(rng, corpus.len())].clone();
    for _ in 0..=below(rng, 6) {
        change(&mut input, corpus, rng);
    }
    input.truncate(MAX_BYTES);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
    let at = below(rng, input.len() + 1);
    let end = (at + below(rng, 40)).min(input.len());
    match below(rng, 7) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << below(rng, 8);
            }
        }
        1 => drop(input.drain(at..end)),
        2 => {
            let piece = PIECES[below(rng, PIECES.len())];
            drop(input.splice(at..at, piece.bytes()));
        }
        3 => {
            let piece = PIECES[below(rng, PIECES.len())];
            drop(input.splice(at..end, piece.bytes()));
        }
        4 => {
            let again: Vec<u8> = input[at..end].repeat(1 + below(rng, 200));
            drop(input.splice(at..at, again));
        }
        5 => {
            let other = &corpus[below(rng, corpus.len())];
            let from = below(rng, other.len());
            let until = (from + below(rng, 200)).min(other.len());
            drop(input.splice(at..end, other[from..until].iter().copied()));
        }
        _ => {
            let number = rng.next_u64().to_string();
            drop(input.splice(at..end, number.bytes()));
        }
    }
}
