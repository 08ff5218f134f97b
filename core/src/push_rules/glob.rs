//! Glob patterns as push rules have them: `*` is any number of characters, `?` is one, case does not matter.
//!
//! Users write the patterns and anyone writes the texts, so a match takes time proportional to their two lengths,
//! never more: all ways to match are followed at once, as a set of bits.
//!
//! <https://spec.matrix.org/v1.19/appendices/#glob-style-matching>

/// A pattern with more characters (not counting `*`) never matches in part, and matches as a whole only when it has
/// no wildcards.
pub const MAX_PATTERN: usize = 255;

/// Whether the pattern matches all of the text.
pub fn matches_whole(pattern: &str, text: &str) -> bool {
    if !has_wildcards(pattern) {
        return equal_ignoring_case(pattern, text);
    }
    Glob::new(pattern).is_some_and(|glob| glob.matches_whole(text))
}

/// Whether the pattern matches a part of the text that starts and ends at a word boundary: at an end of the text, or
/// beside a character that is not an ASCII letter, digit or `_`.
///
/// `folded` is the text after [`fold`]. An empty pattern matches only an empty text.
pub fn matches_words(pattern: &str, folded: &str) -> bool {
    if pattern.is_empty() {
        return folded.is_empty();
    }
    if !has_wildcards(pattern) && !folded.contains(&fold(pattern)) {
        return false;
    }
    Glob::new(pattern).is_some_and(|glob| glob.matches_words(folded))
}

/// As [`matches_words`], but `*` and `?` in the needle stand for themselves.
pub fn contains_words(needle: &str, folded: &str) -> bool {
    !needle.is_empty()
        && folded.contains(&fold(needle))
        && Glob::literal(needle).is_some_and(|glob| glob.matches_words(folded))
}

/// The text in lower case, each character by itself: unlike `str::to_lowercase`, which looks at a character's
/// neighbours, so that parts of equal texts would differ.
pub fn fold(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { folded_chars(text).collect() }
}

fn folded_chars(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn equal_ignoring_case(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && folded_chars(a).eq(folded_chars(b)))
}

fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// A set of states. State `n` is: the first `n` characters of the pattern have been matched.
type States = [u64; (MAX_PATTERN + 1).div_ceil(64)];

const NO_STATES: States = [0; _];

/// A pattern as an automaton.
struct Glob {
    /// How many characters it has, not counting `*`: the state in which all is matched.
    len: usize,
    /// States before a `*`: they stay, whatever comes.
    stars: States,
    /// States before a `?`: they move on, whatever comes.
    any: States,
    /// States before a character, sorted by it: they move on when it comes.
    chars: Vec<(char, States)>,
}

impl Glob {
    /// `None` if the pattern is too long.
    fn new(pattern: &str) -> Option<Self> {
        let mut glob = Self { len: 0, stars: NO_STATES, any: NO_STATES, chars: Vec::new() };
        for char in folded_chars(pattern) {
            match char {
                '*' => insert(&mut glob.stars, glob.len),
                '?' => glob.push_any()?,
                char => glob.push_char(char)?,
            }
        }
        Some(glob)
    }

    /// `None` if the text is too long.
    fn literal(text: &str) -> Option<Self> {
        let mut glob = Self { len: 0, stars: NO_STATES, any: NO_STATES, chars: Vec::new() };
        folded_chars(text).try_for_each(|char| glob.push_char(char))?;
        Some(glob)
    }

    fn push_any(&mut self) -> Option<()> {
        insert(&mut self.any, self.len);
        self.grow()
    }

    fn push_char(&mut self, char: char) -> Option<()> {
        let at = self.chars.binary_search_by_key(&char, |(char, _)| *char).unwrap_or_else(|at| {
            self.chars.insert(at, (char, NO_STATES));
            at
        });
        insert(&mut self.chars[at].1, self.len);
        self.grow()
    }

    fn grow(&mut self) -> Option<()> {
        self.len += 1;
        (self.len <= MAX_PATTERN).then_some(())
    }

    fn matches_whole(&self, text: &str) -> bool {
        let mut states = NO_STATES;
        insert(&mut states, 0);
        for char in folded_chars(text) {
            self.step(&mut states, char);
        }
        contains(&states, self.len)
    }

    fn matches_words(&self, folded: &str) -> bool {
        let mut states = NO_STATES;
        let mut before_is_word = false;
        for char in folded.chars() {
            let is_word = is_word(char);
            if !(before_is_word && is_word) {
                insert(&mut states, 0);
                if contains(&states, self.len) {
                    return true;
                }
            }
            self.step(&mut states, char);
            before_is_word = is_word;
        }
        insert(&mut states, 0);
        contains(&states, self.len)
    }

    fn step(&self, states: &mut States, char: char) {
        let found = self.chars.binary_search_by_key(&char, |(char, _)| *char);
        let this_char = found.map_or(&NO_STATES, |at| &self.chars[at].1);
        let mut carry = 0;
        for (index, bits) in states.iter_mut().enumerate().take(self.len / 64 + 1) {
            let moving = *bits & (self.any[index] | this_char[index]);
            *bits = (*bits & self.stars[index]) | moving << 1 | carry;
            carry = moving >> 63;
        }
    }
}

fn insert(states: &mut States, state: usize) {
    states[state / 64] |= 1 << (state % 64);
}

fn contains(states: &States, state: usize) -> bool {
    states[state / 64] >> (state % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_texts() {
        for (pattern, text, matches) in [
            ("lunc?*", "Lunch plans", true),
            ("lunc?*", "LUNCH", true),
            ("lunc?*", " lunch", false),
            ("lunc?*", "lunc", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "any", true),
            ("?", "", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("m.room.message", "M.ROOM.message", true),
            ("m.room.message", "m.room.messages", false),
            ("straße?", "STRAßE7", true),
            ("[a]\\", "[A]\\", true),
            ("*\u{3c3}", "ΟΔΥΣΣΕΥΣ", true),
        ] {
            assert_eq!(matches_whole(pattern, text), matches, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn words_in_texts() {
        for (pattern, text, matches) in [
            ("ex*ple", "An example event.", true),
            ("ex*ple", "exple", true),
            ("ex*ple", "An exciting triple-whammy", true),
            ("ex*ple", "An exciting triplewhammy", false),
            ("cake", "a piece of CAKE!", true),
            ("cake", "cakes", false),
            ("cake", "cupcake", false),
            ("cake", "cupcake cake", true),
            ("cake", "pan_cake", false),
            ("cake", "ücake", true),
            ("cake*", "cakes", true),
            ("*cake", "a cupcake", true),
            ("c?ke", "coke", true),
            ("@room", "hey@room", true),
            ("@room", "@rooms", false),
            ("a b", "xa b", false),
            ("", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_words(pattern, &fold(text)), matches, "{pattern:?} in {text:?}");
        }
    }

    #[test]
    fn names_are_taken_literally() {
        assert!(contains_words("al*ce?", &fold("Hi AL*CE?!")));
        assert!(!contains_words("al*ce", &fold("alice")));
        assert!(!contains_words("", ""));
    }

    #[test]
    fn hostile_patterns_neither_match_nor_take_long() {
        let text = "a".repeat(65_000);
        for pattern in ["*a".repeat(127) + "b", "a?".repeat(30_000), "*".repeat(60_000) + "b"] {
            assert!(!matches_whole(&pattern, &text));
            assert!(!matches_words(&pattern, &text));
        }
        assert!(matches_whole(&text, &text), "without wildcards any length matches");
    }

    /// The definition, word for word.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            Some((char, rest)) => {
                text.first().is_some_and(|first| *char == '?' || char == first) && naive(rest, &text[1..])
            }
        }
    }

    fn naive_words(pattern: &[char], text: &[char]) -> bool {
        let boundary =
            |at: usize| at == 0 || at == text.len() || !is_word(text[at - 1]) || !is_word(text[at]);
        (0..=text.len())
            .flat_map(|from| (from..=text.len()).map(move |to| (from, to)))
            .any(|(from, to)| boundary(from) && boundary(to) && naive(pattern, &text[from..to]))
    }

    proptest! {
        #[test]
        fn globs_are_what_they_are_defined_to_be(pattern in "[ab \u{e4}*?]{1,6}", text in "[ab \u{e4}]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches_whole(&pattern, &text), naive(&p, &t));
            prop_assert_eq!(matches_words(&pattern, &text), naive_words(&p, &t));
        }

        #[test]
        fn long_patterns_cross_the_words_of_the_bit_set(len in 1..=MAX_PATTERN) {
            let pattern = "ab".repeat(len).chars().take(len - 1).chain(['?']).collect::<String>();
            prop_assert!(matches_whole(&pattern, &pattern.replace('?', "z")));
            prop_assert!(!matches_whole(&pattern, &pattern.replace('?', "zz")));
        }
    }
}
