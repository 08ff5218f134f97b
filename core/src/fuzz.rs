//! What once made a parser panic, or might, must not do so again: the fuzzer's corpus. See `examples/fuzz.rs`.

#[path = "../examples/fuzz/corpus.rs"]
mod corpus;
#[path = "../examples/fuzz/targets.rs"]
mod targets;

#[test]
fn corpus_makes_nothing_panic() {
    for (name, target) in targets::TARGETS {
        for input in corpus::read(name) {
            target(&input);
        }
    }
}
