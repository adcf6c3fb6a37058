//! Text to tree: one pass over the parser's events, with every refused construct reported at its place.
//!
//! Bounded before and while it reads: [`MAX_BYTES`], [`MAX_DEPTH`], [`MAX_NODES`]. There are no aliases, so a small
//! file can't stand for a large tree.

use std::{borrow::Cow, collections::HashSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StructureStyle};

use crate::{
    Diagnostic, Diagnostics, Key, Kind, Node, Problems, Source, Span, Style, Text,
    scalar::{self, Ambiguous},
    suggest,
};

/// The longest file that is read, in bytes: 1 MiB.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of lists and maps that is read; 64 levels pass.
pub const MAX_DEPTH: usize = 64;
/// The most values and keys of a file.
pub const MAX_NODES: usize = 100_000;

/// A file: its text and its tree. Cheap to ask, costly to clone.
#[derive(Debug, Clone)]
pub struct File {
    source: Source,
    root: Node,
}

// === impl File ===

impl File {
    /// Parses a whole file. `path` is only shown. A file without a value is a file with [`Kind::Null`].
    pub fn parse(path: impl Into<String>, text: impl Into<String>) -> Result<Self, Diagnostics> {
        let (path, text) = (path.into(), text.into());
        if text.len() > MAX_BYTES {
            let message = format!("file has {} bytes, limit is {MAX_BYTES}", text.len());
            return Err(Diagnostic::of_file(path, "too-large", message).into());
        }
        let source = Source::new(path, text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text));
        let mut build = Build::new(&source);
        build.run();
        let Build { problems, root, .. } = build;
        let root = problems.finish(Some(root))?;
        Ok(Self { source, root })
    }

    /// The file's value.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The file's text, for diagnostics made later.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What `reader` makes of the file's value, if it reports nothing; else everything it reports.
    pub fn read<'f, T>(&'f self, reader: impl FnOnce(&'f Node, &Problems) -> Option<T>) -> Result<T, Diagnostics> {
        let problems = self.problems();
        let read = reader(&self.root, &problems);
        problems.finish(read)
    }

    /// Where this file's readers report to.
    pub fn problems(&self) -> Problems {
        Problems::new(&self.source)
    }
}

struct Build<'s> {
    text: &'s str,
    problems: Problems,
    /// The lists and maps that are not closed yet, outermost first.
    open: Vec<Open>,
    root: Node,
    nodes: usize,
    documents: usize,
}

/// A list or map that is not closed yet.
struct Open {
    start: usize,
    flow: bool,
    entries: Entries,
}

enum Entries {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, names: HashSet<String> },
}

/// Nothing more can be made of the file.
struct Stop;

// === impl Build ===

impl<'s> Build<'s> {
    fn new(source: &'s Source) -> Self {
        Self {
            text: source.text(),
            problems: Problems::new(source),
            open: Vec::new(),
            root: Node { kind: Kind::Null, span: Span { start: 0, end: 0 } },
            nodes: 0,
            documents: 0,
        }
    }

    fn run(&mut self) {
        let options = granit_parser::options! {
            disallow_directives: true,
            emit_anchor_events: true,
            emit_unresolved_aliases: true,
            // these count each style alone, `open` counts both
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        for next in Parser::new_from_str_with_options(self.text, options) {
            let step = match next {
                Ok((event, span)) => self.event(event, &span),
                Err(error) => self.syntax(&error),
            };
            if let Err(Stop) = step {
                return;
            }
        }
    }

    fn event(&mut self, event: Event<'_>, place: &granit_parser::Span) -> Result<(), Stop> {
        let span = self.span(place);
        if event.tag().is_some() {
            let tag = place.tag_span().map_or(span, |tag| self.span(&tag));
            self.problems.report_with_help(tag, "tag", "tags are not allowed", "a value's form says its type");
        }
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(..) => self.document(span),
            Event::Anchor(_, name) => {
                self.refuse(span, "anchor", &format!("anchors are not allowed: &{}", short(&name)));
                Ok(())
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let alias = short(&self.text[span.start..span.end]);
                self.refuse(span, "alias", &format!("aliases are not allowed: {alias}"));
                self.value(Node { kind: Kind::Null, span })
            }
            Event::Scalar(value, style, ..) => {
                let kind = self.scalar(value, style, span);
                self.value(Node { kind, span })
            }
            Event::SequenceStart(style, ..) => self.open(style, span, Entries::List(Vec::new())),
            Event::MappingStart(style, ..) => {
                self.open(style, span, Entries::Map { entries: Vec::new(), key: None, names: HashSet::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close(span);
                Ok(())
            }
            // comments are switched off; what a later parser adds is refused until somebody looks at it
            other => {
                self.problems.report(span, "unsupported", format!("not supported: {}", short(&format!("{other:?}"))));
                Ok(())
            }
        }
    }

    fn document(&mut self, span: Span) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        self.problems.report(span, "one-document", "a second document begins here; a file has one");
        Err(Stop)
    }

    fn scalar(&mut self, value: Cow<'_, str>, style: ScalarStyle, span: Span) -> Kind {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        if style == Style::Plain {
            match scalar::resolve(&value) {
                Ok(Some(kind)) => return kind,
                Ok(None) => {}
                Err(Ambiguous::Spelling) => {
                    let message = format!("{} can be read in more than one way", suggest::quote(&value));
                    let help = "write numbers, true, false and null as in JSON, or put text in quotes";
                    self.problems.report_with_help(span, "ambiguous", message, help);
                }
                Err(Ambiguous::Range) => {
                    self.problems.report(span, "out-of-range", "number does not fit a 64-bit float");
                }
            }
        }
        let at = span.start + usize::from(style == Style::Quoted);
        let verbatim_at = self.text.get(at..).filter(|text| text.starts_with(&*value)).map(|_| at);
        let verbatim_at = verbatim_at.filter(|_| style != Style::Block && !value.contains('\n'));
        Kind::String(Text { value: value.into_owned(), style, verbatim_at })
    }

    fn value(&mut self, node: Node) -> Result<(), Stop> {
        self.count(node.span)?;
        self.place(node);
        Ok(())
    }

    /// A value is complete: it goes into the list or map that is open.
    fn place(&mut self, node: Node) {
        let Some(parent) = self.open.last_mut() else {
            self.root = node;
            return;
        };
        match &mut parent.entries {
            Entries::List(items) => items.push(node),
            Entries::Map { entries, key, names } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(checked_key(node, names, &self.problems)),
            },
        }
    }

    fn open(&mut self, style: StructureStyle, span: Span, entries: Entries) -> Result<(), Stop> {
        self.count(span)?;
        if self.open.len() == MAX_DEPTH {
            self.too_deep(span);
            return Err(Stop);
        }
        if style == StructureStyle::Block {
            self.no_tab_before(span);
        }
        self.open.push(Open { start: span.start, flow: style == StructureStyle::Flow, entries });
        Ok(())
    }

    fn close(&mut self, end: Span) {
        let Some(Open { start, flow, entries }) = self.open.pop() else {
            return;
        };
        let (kind, last) = match entries {
            Entries::List(items) => {
                let last = items.last().map(|node| node.span.end);
                (Kind::List(items), last)
            }
            Entries::Map { entries, .. } => {
                let last = entries.last().map(|(key, node)| node.span.end.max(key.span.end));
                (Kind::Map(entries), last)
            }
        };
        // a block ends where the next token begins: say where its last entry ends
        let end = last.filter(|_| !flow).unwrap_or(end.end);
        self.place(Node { kind, span: Span { start, end: end.max(start) } });
    }

    fn count(&mut self, span: Span) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        self.problems.report(span, "too-many", format!("more than {MAX_NODES} values and keys"));
        Err(Stop)
    }

    fn syntax(&mut self, error: &ScanError) -> Result<(), Stop> {
        let offset = error.marker().byte_offset().unwrap_or_default().min(self.text.len());
        let span = Span { start: offset, end: offset };
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(span),
            kind => self.problems.report(span, "syntax", kind.to_string()),
        }
        Err(Stop)
    }

    /// A tab has no width that everybody agrees on. The parser refuses most of them, but not all.
    fn no_tab_before(&self, block: Span) {
        let line = self.text[..block.start].rfind('\n').map_or(0, |end| end + 1);
        if let Some(tab) = self.text[line..block.start].find('\t') {
            let at = line + tab;
            self.problems.report(Span { start: at, end: at + 1 }, "tab", "a tab does not indent: use spaces");
        }
    }

    fn too_deep(&self, span: Span) {
        self.problems.report(span.first(), "too-deep", format!("nested deeper than {MAX_DEPTH} levels"));
    }

    fn refuse(&self, span: Span, code: &'static str, message: &str) {
        self.problems.report_with_help(span, code, message, "write the value out, or put text in quotes");
    }

    /// Byte offsets, within the text and in order.
    fn span(&self, place: &granit_parser::Span) -> Span {
        let start = place.start.byte_offset().unwrap_or_default().min(self.text.len());
        let end = place.end.byte_offset().unwrap_or_default().min(self.text.len());
        Span { start, end: end.max(start) }
    }
}

/// Keys are strings, each once.
fn checked_key(node: Node, names: &mut HashSet<String>, problems: &Problems) -> Key {
    let span = node.span;
    let Kind::String(Text { value: name, style, .. }) = node.kind else {
        let message = format!("a key is a string, this is {}", node.type_name());
        problems.report_with_help(span, "key-type", message, "put it in quotes");
        return Key { name: String::new(), span };
    };
    if name == "<<" && style == Style::Plain {
        problems.report(span, "merge-key", "merge keys are not allowed");
    }
    if !names.insert(name.clone()) {
        problems.report(span, "duplicate-key", format!("key {} is already in this map", suggest::quote(&name)));
    }
    Key { name, span }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
