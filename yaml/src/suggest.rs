//! "Did you mean ...": the nearest of the words that are valid.

/// The farthest word that is suggested, in edits.
const MAX_DISTANCE: usize = 2;
/// Longer words get no suggestion: the distance costs the product of the lengths.
const MAX_LENGTH: usize = 64;

/// The valid word nearest to `word`, if it is near.
pub fn nearest<'w>(word: &str, valid: &[&'w str]) -> Option<&'w str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    // a short word is near to everything: `to` is two edits from `in`
    let most = MAX_DISTANCE.min(word.chars().count().saturating_sub(1));
    let near = valid.iter().map(|v| (distance(word, v), *v)).filter(|(d, _)| *d <= most);
    near.min_by_key(|(d, _)| *d).map(|(_, v)| v)
}

/// `"a", "b", "c"`
pub(crate) fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("\"{w}\"")).collect();
    quoted.join(", ")
}

/// What the file says, in quotes, escaped and not too long for a message.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Insertions, removals, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits_and_swaps() {
        for (a, b, edits) in [("", "", 0), ("from", "from", 0), ("form", "from", 1), ("frm", "from", 1), ("a", "", 1)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("é", "e"), 1);
    }

    #[test]
    fn the_nearest_word_is_suggested_if_it_is_near() {
        let valid = ["from", "envelope", "ack", "to"];
        assert_eq!(nearest("form", &valid), Some("from"));
        assert_eq!(nearest("envelop", &valid), Some("envelope"));
        assert_eq!(nearest("akc", &valid), Some("ack"));
        assert_eq!(nearest("x", &valid), None);
        assert_eq!(nearest("something", &valid), None);
        assert_eq!(nearest(&"x".repeat(100_000), &valid), None);
    }

    #[test]
    fn a_quote_is_escaped_and_bounded() {
        assert_eq!(quote("a\u{1b}\"b"), r#""a\u{1b}\"b""#);
        assert!(quote(&"é".repeat(1_000)).chars().count() < 70);
    }
}
