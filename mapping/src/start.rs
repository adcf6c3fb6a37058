//! A first mapping file for a captured message: what the message looks like as JSON Schema, a mapping that takes it over
//! member by member, and a test with the message in it.
//!
//! It is a beginning to be edited: the topic is the mapping's name, and everything that the sample has is required.

mod shape;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use envelope::{
    Json, Rejection,
    json::{Node, View, write_string},
};

use self::shape::Shape;
use crate::codec::{Charset, Codec, Decoded};

/// The most members that are taken over one by one.
const MAX_MEMBERS: usize = 64;
/// The words of CEL that are no names of members.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// A captured message.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// What the mapping is to be called.
    pub name: &'a str,
    /// The bridge it came through.
    pub bridge: &'a str,
    /// The addresses to take, as a mapping file writes them.
    pub address: &'a str,
    /// A word of `from.decode`; left out, it is guessed from the content.
    pub decode: Option<&'a str>,
    /// The message.
    pub payload: &'a Bytes,
}

/// A mapping file and the schema that it names, as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The mapping file.
    pub mapping: String,
    /// The JSON Schema of the payload, for `schemas/NAME.json`; `None` for text and bytes, which have no members.
    pub schema: Option<String>,
}

/// Writes a first mapping for a sample. Refuses one that is not of the format asked for.
pub fn start(sample: Sample<'_>) -> Result<Started, Rejection> {
    let (declared, codec) = match sample.decode {
        Some(word) => (word.to_owned(), known(word).unwrap_or(Codec::Bytes)),
        None => guess(sample.payload),
    };
    let decoded = codec.decode(sample.payload)?;
    let tree = decoded.tree();
    let mut file = format!(
        "# A first mapping, made from a captured message; openmesh check says what is proven of it.\n\
         mapping: {}\nfrom:\n  bridge: {}\n  address: {}\n  decode: {declared}\n",
        quoted(sample.name),
        quoted(sample.bridge),
        quoted(sample.address),
    );
    if tree.is_some() {
        file += &format!("  schema: {}\n", quoted(&format!("schemas/{}.json", sample.name)));
    }
    let taken = tree.map(|tree| Taken::of(tree.root()));
    if taken.as_ref().is_some_and(|taken| taken.each) {
        file += "each: payload\n";
    }
    file += &format!("envelope:\n  topic: {}\n  performative: inform\n", quoted(sample.name));
    if let Some(taken) = taken.as_ref().filter(|taken| !taken.members.is_empty()) {
        file += "  data:\n";
        if taken.left_out > 0 {
            file += &format!("    # {} more members of the sample are not taken over\n", taken.left_out);
        }
        let from = if taken.each { "item" } else { "payload" };
        for name in &taken.members {
            file += &format!("    {}: {}\n", quoted(name), quoted(&format!("${{{from}{}}}", step(name))));
        }
    }
    file += "ack: durable\n";
    file += &test(sample, &decoded, tree, taken.as_ref());
    Ok(Started { mapping: file, schema: tree.map(|tree| schema(sample.name, tree)) })
}

/// The words of `from.decode`.
pub fn formats() -> impl Iterator<Item = &'static str> {
    Codec::WORDS.into_iter().map(|(word, _)| word)
}

fn known(word: &str) -> Option<Codec> {
    Codec::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, codec)| codec)
}

/// What the content looks like, as a mapping file says it. Text that is of no format is text.
fn guess(payload: &Bytes) -> (String, Codec) {
    let of = |word: &str| (word.to_owned(), known(word).unwrap_or(Codec::Bytes));
    let Ok(text) = std::str::from_utf8(payload) else { return of("bytes") };
    let reads = |codec: Codec| codec.decode(payload).is_ok();
    if Json::parse(payload.clone()).is_ok_and(|json| matches!(json.root().view(), View::Array(_) | View::Object(_))) {
        return of("json");
    }
    if text.trim_start().starts_with('<') && reads(Codec::Xml(Charset::Utf8)) {
        return of("xml");
    }
    for delimiter in [',', ';', '\t'] {
        let codec = Codec::Csv(Charset::Utf8, delimiter as u8);
        let columns = text.lines().next().map_or(0, |line| line.matches(delimiter).count());
        if columns > 0 && text.lines().count() > 1 && reads(codec) {
            let declared = format!("{{ csv: {{ delimiter: {} }} }}", quoted(&delimiter.to_string()));
            return (if delimiter == ',' { "csv".to_owned() } else { declared }, codec);
        }
    }
    let form = text.contains('=') && !text.contains(char::is_whitespace);
    of(if form && reads(Codec::UrlEncoded(Charset::Utf8)) { "urlencoded" } else { "text" })
}

/// What the mapping takes over of a payload.
struct Taken {
    /// Each element of the payload, an array of objects, by itself.
    each: bool,
    members: Vec<String>,
    /// How many more there are, past [`MAX_MEMBERS`].
    left_out: usize,
}

// === impl Taken ===

impl Taken {
    /// Of an array, the members that every element has: no other can be read without a condition.
    fn of(root: Node<'_>) -> Self {
        let items: Vec<_> = root.as_array().into_iter().flatten().collect();
        let each = !items.is_empty() && items.iter().all(|item| item.as_object().is_some());
        let first = if each { items.first().copied() } else { Some(root) };
        let members = first.and_then(Node::as_object).into_iter().flatten().map(|(name, _)| name);
        // an expression in a key of the data is none
        let plain = members.filter(|name| !name.contains("${") && !name.is_empty());
        let everywhere = plain.filter(|name| items.iter().all(|item| !each || item.get(name).is_some()));
        let mut members: Vec<_> = everywhere.map(str::to_owned).collect();
        let left_out = members.len().saturating_sub(MAX_MEMBERS);
        members.truncate(MAX_MEMBERS);
        Self { each, members, left_out }
    }

    fn write(&self, from: Node<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (name, value)) in self.members.iter().filter_map(|name| Some((name, from.get(name)?))).enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            write_string(out, name);
            out.extend_from_slice(b": ");
            write_value(value, out);
        }
        out.push(b'}');
    }
}

/// The sample as a test in the file.
fn test(sample: Sample<'_>, decoded: &Decoded<'_>, tree: Option<&Json>, taken: Option<&Taken>) -> String {
    let given = match (decoded, std::str::from_utf8(sample.payload)) {
        (Decoded::Bytes, _) | (_, Err(_)) => format!("base64: {}", quoted(&BASE64_STANDARD.encode(sample.payload))),
        (_, Ok(text)) => format!("text: {}", quoted(text)),
    };
    let topic = quoted(sample.name);
    let expected = |node: Node<'_>, taken: &Taken| {
        let mut data = Vec::new();
        taken.write(node, &mut data);
        let data = String::from_utf8_lossy(&data).into_owned();
        if taken.members.is_empty() {
            format!("{{ topic: {topic} }}")
        } else {
            format!("{{ topic: {topic}, data: {data} }}")
        }
    };
    let expect = match (tree, taken) {
        (Some(tree), Some(taken)) if taken.each => {
            let items: String = tree
                .root()
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| format!("\n        - {}", expected(item, taken)))
                .collect();
            format!("\n      items:{items}")
        }
        (Some(tree), Some(taken)) => format!(" {}", expected(tree.root(), taken)),
        _ => format!(" {{ topic: {topic} }}"),
    };
    let address = quoted(&example(sample.address));
    format!(
        "tests:\n  - name: the message that this mapping was made from\n    given:\n      address: {address}\n      \
         {given}\n    expect:{expect}\n"
    )
}

fn schema(name: &str, tree: &Json) -> String {
    let mut shape = Shape::default();
    shape.add(tree.root());
    let mut out = Vec::new();
    out.extend_from_slice(b"{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n  \"title\": ");
    write_string(&mut out, &format!("What {name} takes, as a sample showed it"));
    out.extend_from_slice(b",\n  ");
    shape.write_keywords(&mut out, 1);
    out.extend_from_slice(b"\n}\n");
    String::from_utf8_lossy(&out).into_owned()
}

/// An address that the pattern matches.
fn example(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        "+" => "any",
        named => named.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(named),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// `.name`, or `["a name"]`.
fn step(name: &str) -> String {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let plain = first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && !RESERVED.contains(&name) { format!(".{name}") } else { format!("[{}]", quoted(name)) }
}

/// In double quotes: what JSON writes is read alike by YAML and by CEL.
fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// JSON that is YAML as well: its strings have no pairs of surrogates.
fn write_value(node: Node<'_>, out: &mut Vec<u8>) {
    match node.view() {
        View::Null | View::Bool(_) | View::Number(_) => out.extend_from_slice(node.source().as_bytes()),
        View::String(text) => write_string(out, text),
        View::Array(items) => {
            out.push(b'[');
            for (index, item) in items.enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        View::Object(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_string(out, name);
                out.extend_from_slice(b": ");
                write_value(value, out);
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests;
