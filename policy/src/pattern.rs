//! Globs: `*` for any characters, `?` for exactly one; anything else for itself.
//!
//! Promise: matching costs at most length of the glob × length of the text, whatever both hold, and never more steps than
//! are left for a decision. There is one point to go back to, the last `*`: an earlier one never needs to take more, since
//! the later can take it instead.

use std::cell::Cell;

/// One step of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
}

impl Token {
    /// What a character means where wildcards are read.
    pub(crate) const fn of(character: char) -> Self {
        match character {
            '*' => Self::Any,
            '?' => Self::One,
            other => Self::Char(other),
        }
    }
}

/// Whether the whole text matches. Takes its steps from `steps_left`; with none left the answer means nothing.
pub(crate) fn matches(tokens: &[Token], text: &str, steps_left: &Cell<usize>) -> bool {
    // The rest of the tokens and of the text; and both as they stood behind the last `*`.
    let (mut tokens, mut text) = (tokens, text);
    let mut last_any: Option<(&[Token], &str)> = None;
    loop {
        let Some(left) = steps_left.get().checked_sub(1) else { return false };
        steps_left.set(left);
        let step = match (tokens.split_first(), split_first(text)) {
            (Some((Token::Any, behind)), _) => {
                last_any = Some((behind, text));
                Some((behind, text))
            }
            (Some((Token::One, behind)), Some((_, rest))) => Some((behind, rest)),
            (Some((Token::Char(wanted), behind)), Some((character, rest))) if *wanted == character => Some((behind, rest)),
            (None, None) => return true,
            _ => None,
        };
        (tokens, text) = match (step, last_any) {
            (Some(next), _) => next,
            (None, None) => return false,
            (None, Some((behind, from))) => {
                // The last `*` takes one character more.
                let Some((_, rest)) = split_first(from) else { return false };
                last_any = Some((behind, rest));
                (behind, rest)
            }
        };
    }
}

fn split_first(text: &str) -> Option<(char, &str)> {
    let mut rest = text.chars();
    rest.next().map(|character| (character, rest.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Vec<Token> {
        text.chars().map(Token::of).collect()
    }

    fn matches_freely(tokens: &[Token], text: &str) -> bool {
        matches(tokens, text, &Cell::new(usize::MAX))
    }

    /// The definition, without any care for what it costs.
    fn by_definition(tokens: &[Token], text: &[char]) -> bool {
        match (tokens, text) {
            ([], []) => true,
            ([Token::Any, behind @ ..], _) => (0..=text.len()).any(|taken| by_definition(behind, &text[taken..])),
            ([Token::One, behind @ ..], [_, rest @ ..]) => by_definition(behind, rest),
            ([Token::Char(wanted), behind @ ..], [character, rest @ ..]) if wanted == character => by_definition(behind, rest),
            _ => false,
        }
    }

    #[test]
    fn a_glob_matches_the_whole_text_or_nothing() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "any/thing:at all", true),
            ("?", "", false),
            ("?", "é", true),
            ("??", "é", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbXbXc", true),
            ("*abc", "ababc", true),
            ("a**c", "ac", true),
            ("*?", "", false),
            ("trail/*", "trail/", true),
            ("trail/?*", "trail/", false),
            ("Get*", "get", false),
        ] {
            assert_eq!(matches_freely(&glob(pattern), text), wanted, "{pattern} on {text}");
        }
    }

    #[test]
    fn no_text_costs_more_than_the_product_of_the_lengths() {
        for (pattern, text) in [
            ("*a".repeat(500), "a".repeat(500)),
            (format!("{}b", "*a".repeat(500)), "a".repeat(2_000)),
            (format!("*{}b", "a".repeat(1_000)), "a".repeat(2_000)),
            (format!("*{}b*", "?".repeat(1_000)), "a".repeat(2_000)),
        ] {
            let steps_left = Cell::new(usize::MAX);
            matches(&glob(&pattern), &text, &steps_left);
            let steps = usize::MAX - steps_left.get();
            assert!(steps <= (pattern.len() + 1) * (text.len() + 1), "{steps} steps for {} × {}", pattern.len(), text.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn the_matcher_agrees_with_the_definition(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches_freely(&glob(&pattern), &text), by_definition(&glob(&pattern), &characters));
        }

        #[test]
        fn a_text_made_from_a_glob_matches_it(parts in proptest::collection::vec("[a-c]{0,4}", 1..6), filling in "[a-c]{0,6}") {
            prop_assert!(matches_freely(&glob(&parts.join("*")), &parts.join(&filling)));
        }
    }
}
