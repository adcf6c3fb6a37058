//! What a mapping sends to a peer: headers and a payload. Of an egress mapping's `to`, and of a `reply`.

use bytes::Bytes;
use envelope::{Data, Headers, Json, RejectKind, Rejection};
use yaml::{Fields, Node, Problems, Span};

use crate::{
    body::Body,
    codec::{Charset, Codec, Unfit},
    expr::{Names, PayloadKind, Scope},
    plan::refusal,
    proof::{Parts, Place},
    template::Template,
    text::TextTemplate,
};

/// The most headers that a file sets.
const MAX_HEADERS: usize = 64;
/// The longest value of a header, in bytes.
const MAX_HEADER: usize = 8_192;
const CONTENT_TYPE: &str = "content-type";

/// Headers and payload, compiled.
#[derive(Debug)]
pub(crate) struct Message {
    headers: Box<[Header]>,
    content: Content,
    /// What the content is, unless a header says it; of what goes through untouched only the message tells.
    content_type: Option<Bytes>,
}

#[derive(Debug)]
struct Header {
    name: Box<str>,
    /// As errors call it.
    field: Box<str>,
    template: Template,
    fixed: Option<Bytes>,
}

#[derive(Debug)]
enum Content {
    /// No payload.
    Nothing,
    /// The envelope's data as it is.
    Untouched,
    /// A value, in a format.
    Made(Body, Codec),
    /// Text that a template lays out.
    Laid(Box<TextTemplate>, Codec),
}

/// An envelope's data and what it says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Untouched<'a> {
    pub(crate) data: &'a Data,
    pub(crate) content_type: Option<&'a str>,
}

// === impl Message ===

impl Message {
    /// Reads `headers`, `encode`, `body` and `template`. `decode`: the format of the envelope's data, where there is one.
    pub(crate) fn read(
        fields: &mut Fields<'_, '_>,
        at: &str,
        names: Names<'_>,
        decode: Option<Codec>,
        problems: &Problems,
    ) -> Option<Self> {
        let headers = match fields.optional("headers") {
            Some(node) => headers(node, at, names, problems),
            None => Some(Box::default()),
        };
        let encode = match fields.entry("encode") {
            Some((key, node)) => Codec::read(node, problems).map(|codec| Some((key.span, codec))),
            None => Some(None),
        };
        let content = Content::read(fields, at, encode?, names, decode, problems);
        let (headers, content) = (headers?, content?);
        let content_type = match &content {
            Content::Made(_, codec) | Content::Laid(_, codec) => Some(codec.content_type().into()),
            Content::Nothing | Content::Untouched => None,
        };
        let said = headers.iter().any(|header| &*header.name == CONTENT_TYPE);
        Some(Self { headers, content, content_type: content_type.filter(|_| !said) })
    }

    /// The format of what it writes, if that is always the same. `data`: that of what goes through untouched.
    pub(crate) fn format(&self, data: Codec) -> Option<Codec> {
        match &self.content {
            Content::Nothing => None,
            Content::Untouched => Some(data),
            Content::Made(_, codec) | Content::Laid(_, codec) => Some(*codec),
        }
    }

    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        let content = match &self.content {
            Content::Nothing | Content::Untouched => false,
            Content::Made(body, _) => body.reads_payload(),
            Content::Laid(text, _) => text.reads_payload(),
        };
        content || self.headers.iter().any(|header| header.template.reads_payload())
    }

    /// What is known of each of its parts. `at`: what errors call the whole.
    pub(crate) fn prove(&mut self, at: &str, parts: &mut Parts<'_>) {
        for header in &mut self.headers {
            parts.text(&format!("{at}.headers.{}", header.name), &mut header.template, Place::Header);
        }
        match &mut self.content {
            Content::Nothing | Content::Untouched => {}
            Content::Made(body, codec) => parts.body(at, body, *codec),
            Content::Laid(text, _) => parts.laid(at, text.reads()),
        }
    }

    /// Headers and payload of one message.
    pub(crate) fn write(
        &self,
        scope: &Scope<'_>,
        untouched: Option<Untouched<'_>>,
    ) -> Result<(Headers, Bytes), Rejection> {
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        let mut scratch = String::new();
        for header in &self.headers {
            headers.push((String::from(&*header.name), header.of(scope, &mut scratch)?));
        }
        let payload = match &self.content {
            Content::Nothing => Bytes::new(),
            Content::Untouched => match untouched {
                Some(Untouched { data, content_type }) => {
                    if let Some(kind) = content_type.filter(|_| headers.iter().all(|(name, _)| name != CONTENT_TYPE)) {
                        headers.push((CONTENT_TYPE.to_owned(), Bytes::copy_from_slice(kind.as_bytes())));
                    }
                    data.bytes()
                }
                None => Bytes::new(),
            },
            Content::Made(body, codec) => {
                let mut json = Vec::with_capacity(256);
                body.write(scope, &mut json)?;
                encoded(*codec, json.into())?
            }
            Content::Laid(text, codec) => {
                let bytes = codec.encode_text(&text.lay(scope)?).map_err(|unfit| unfit_for(*codec, &unfit))?;
                codec.decode(&bytes).map_err(|rejection| {
                    let detail = format!("template: what it lays out: {}", rejection.detail);
                    Rejection::new(RejectKind::Malformed, "mapping", detail)
                })?;
                bytes
            }
        };
        if let Some(content_type) = &self.content_type {
            headers.push((CONTENT_TYPE.to_owned(), content_type.clone()));
        }
        Ok((headers.into(), payload))
    }
}

// === impl Content ===

impl Content {
    /// Reads `body` and `template`. `encode`: the declared format and where it stands.
    fn read(
        fields: &mut Fields<'_, '_>,
        at: &str,
        encode: Option<(Span, Codec)>,
        names: Names<'_>,
        decode: Option<Codec>,
        problems: &Problems,
    ) -> Option<Self> {
        let (body, template) = (fields.entry("body"), fields.entry("template"));
        let codec = encode.map_or(Codec::Json, |(_, codec)| codec);
        match (body, template) {
            (Some(_), Some((key, _))) => {
                problems.report(key.span, "contradiction", "either \"body\" or \"template\"");
                None
            }
            (Some((_, node)), None) => {
                Body::read(node, &format!("{at}.body"), names, problems).map(|body| Self::Made(body, codec))
            }
            (None, Some((_, node))) => {
                let codec = encode.map_or(Codec::Text(Charset::Utf8), |(_, codec)| codec);
                TextTemplate::read(node, codec, names, problems).map(|text| Self::Laid(Box::new(text), codec))
            }
            (None, None) => match (encode, decode) {
                (None, Some(_)) => Some(Self::Untouched),
                (None, None) => Some(Self::Nothing),
                (Some((_, codec)), Some(decode)) if codec == decode => Some(Self::Untouched),
                (Some(_), Some(_)) if names.payload != PayloadKind::Bytes => {
                    Body::payload(&format!("{at}.encode"), names).map(|body| Self::Made(body, codec))
                }
                (Some((span, _)), _) => {
                    problems.report(span, "contradiction", "\"encode\" says nothing without something to write");
                    None
                }
            },
        }
    }
}

/// JSON that was made here, in another format.
fn encoded(codec: Codec, json: Bytes) -> Result<Bytes, Rejection> {
    if codec == Codec::Json {
        return Ok(json);
    }
    let json = Json::parse(json)
        .map_err(|error| Rejection::new(RejectKind::Malformed, "mapping", format!("body: {error}")).because(error))?;
    codec.encode(&json).map_err(|unfit| unfit_for(codec, &unfit))
}

fn unfit_for(codec: Codec, unfit: &Unfit) -> Rejection {
    let place = if unfit.pointer.is_empty() { String::new() } else { format!(" at {:?}", unfit.pointer) };
    let detail = format!("encode: as {}{place}: {}", codec.name(), unfit.problem);
    Rejection::new(RejectKind::Malformed, "mapping", detail)
}

fn headers(node: &Node, at: &str, names: Names<'_>, problems: &Problems) -> Option<Box<[Header]>> {
    let entries = node.map(problems)?;
    if entries.len() > MAX_HEADERS {
        let message = format!("at most {MAX_HEADERS} headers, found {}", entries.len());
        problems.report(node.span, "out-of-range", message);
        return None;
    }
    let mut seen: Vec<String> = Vec::new();
    let read: Vec<_> = entries
        .iter()
        .map(|(key, value)| {
            let name = key.name.to_ascii_lowercase();
            if !is_token(&name) || seen.contains(&name) {
                let message = format!("{:?} is no name of a header, or is there twice", key.name);
                problems.report(key.span, "name", message);
                return None;
            }
            seen.push(name.clone());
            Header::read(value, name, at, names, problems)
        })
        .collect();
    read.into_iter().collect()
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

// === impl Header ===

impl Header {
    fn read(node: &Node, name: String, at: &str, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let template = Template::read(node, names, problems)?;
        if let Some(problem) = template.literal().and_then(|text| check(text).err()) {
            problems.report(node.span, "header", problem);
            return None;
        }
        let fixed = template.literal().map(|text| Bytes::copy_from_slice(text.as_bytes()));
        Some(Self { field: format!("{at}.headers.{name}").into(), name: name.into(), template, fixed })
    }

    fn of(&self, scope: &Scope<'_>, scratch: &mut String) -> Result<Bytes, Rejection> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        scratch.clear();
        let written = self.template.write(scope, scratch, |_| Ok(()));
        written.map_err(|(expr, fault)| refusal(&self.field, expr, *fault))?;
        check(scratch).map_err(|problem| {
            Rejection::new(RejectKind::Malformed, "mapping", format!("{}: {problem}", self.field))
        })?;
        Ok(Bytes::copy_from_slice(scratch.as_bytes()))
    }
}

/// A line's end in a value would begin another header.
fn check(value: &str) -> Result<(), String> {
    if value.len() > MAX_HEADER {
        return Err(format!("a header has at most {MAX_HEADER} bytes, this has {}", value.len()));
    }
    match value.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{c:?} is not allowed in a header")),
        None => Ok(()),
    }
}
