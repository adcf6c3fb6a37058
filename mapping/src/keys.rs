//! The keys of a mapping file that hold a bare expression: `when`, `let`, `each` and `identity`.

use yaml::{Fields, Kind, Node, Problems, Span};

use crate::expr::{Expr, Let, Names, OwnNames, Uses, Wanted, compile, compile_for};

/// The most names under `let`.
const MAX_LETS: usize = 32;
/// What a name under `let` can't be: it means something already, or is a word of CEL's own.
const TAKEN: [&str; 37] = [
    "payload",
    "headers",
    "address",
    "principal",
    "envelope",
    "now",
    "table",
    "item",
    "index",
    "let",
    "each",
    "math",
    "base64",
    "strings",
    "lists",
    "sets",
    "optional",
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// What the keys say, compiled.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) lets: Lets,
    pub(crate) when: Option<Guard>,
    pub(crate) each: Option<Each>,
    pub(crate) identity: Option<Expr>,
}

/// The names under `let`.
#[derive(Debug, Default)]
pub(crate) struct Lets {
    pub(crate) all: Vec<Let>,
    /// The numbers of those that are the same for each item, each behind what it reads.
    pub(crate) once: Vec<usize>,
    /// The numbers of the others, likewise.
    pub(crate) per_item: Vec<usize>,
}

/// `when`.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) expr: Expr,
    /// The names under `let` that it reads.
    pub(crate) lets: Vec<usize>,
    /// Whether the payload must be decoded for it.
    pub(crate) reads_payload: bool,
}

/// `each`.
#[derive(Debug)]
pub(crate) struct Each {
    pub(crate) expr: Expr,
    /// JSON Pointer to the array, if it is a plain path.
    pub(crate) pointer: Option<String>,
}

// === impl Keys ===

impl Keys {
    /// Reads the keys; `None` if any of them is wrong, which is reported. The names are the other result: what else
    /// stands in the file may use them even if they are wrong. `silent`: why `each` and `identity` say nothing here.
    pub(crate) fn read(
        fields: &mut Fields<'_, '_>,
        names: Names<'_>,
        silent: Option<&str>,
        problems: &Problems,
    ) -> (Option<Self>, Vec<Box<str>>) {
        let before = problems.len();
        let (lets, when) = (fields.entry("let"), fields.optional("when"));
        let (each, identity) = (fields.entry("each"), fields.entry("identity"));
        if let Some(why) = silent {
            for (key, _) in [each, identity].into_iter().flatten() {
                problems.report(key.span, "contradiction", format!("{:?} says nothing {why}", key.name));
            }
        }
        let item = each.is_some();
        let entries = lets.and_then(|(_, node)| entries(node, problems)).unwrap_or_default();
        let known: Vec<Box<str>> = entries.iter().map(|(name, _)| Box::from(*name)).collect();
        let own = OwnNames { lets: &known, hidden: 0, item };
        let lets = Lets::read(&entries, Names { own, ..names }, problems);
        let hidden = lets.as_ref().map_or(0, |lets| lets.hidden());
        let outside = Names { own: OwnNames { lets: &known, hidden, item: false }, ..names };
        let when =
            when.and_then(|node| expression(node, problems, |text| compile_for(Wanted::Condition, text, outside)));
        let each =
            each.and_then(|(_, node)| expression(node, problems, |text| compile_for(Wanted::Array, text, outside)));
        let identity = identity.and_then(|(_, node)| {
            expression(node, problems, |text| match header_name(text) {
                true => compile(&format!("headers[\"{text}\"]"), outside),
                false => compile_for(Wanted::Text, text, outside),
            })
        });
        if let Some((expr, span)) = &when {
            constant_guard(expr, *span, problems);
        }
        let read = lets.filter(|_| problems.len() == before).map(|lets| Self {
            when: when.map(|(expr, _)| lets.guard(expr)),
            each: each.map(|(expr, _)| Each { pointer: expr.pointer(), expr }),
            identity: identity.map(|(expr, _)| expr),
            lets,
        });
        (read, known)
    }
}

impl Keys {
    /// All expressions.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let when = self.when.iter().map(|guard| &guard.expr);
        let each = self.each.iter().map(|each| &each.expr);
        when.chain(each).chain(&self.identity).chain(self.lets.all.iter().map(|of| &of.expr))
    }

    /// Whether the payload must be decoded for any of them.
    pub(crate) fn read_payload(&self) -> bool {
        self.when.as_ref().is_some_and(|guard| guard.reads_payload) || self.lets.all.iter().any(|of| of.uses.payload)
    }
}

fn constant_guard(expr: &Expr, span: Span, problems: &Problems) {
    let (message, help) = match expr.constant() {
        Some(false) => ("is false for every message: the mapping is unreachable", "remove the file, or mend \"when\""),
        Some(true) => ("is true for every message", "leave \"when\" out"),
        None => return,
    };
    problems.report_with_help(span, "unreachable", message, help);
}

/// `message-id` is the header of that name: as an expression it would subtract.
fn header_name(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.contains('-') && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(word)
}

/// A bare expression; a number or a word of YAML's own counts as it is written.
pub(crate) fn expression(
    node: &Node,
    problems: &Problems,
    compile: impl FnOnce(&str) -> Result<Expr, Vec<crate::expr::Problem>>,
) -> Option<(Expr, Span)> {
    let text = match &node.kind {
        Kind::Bool(value) => {
            if *value {
                "true"
            } else {
                "false"
            }
        }
        Kind::Integer(_, text) | Kind::Float(_, text) => text,
        _ => node.string(problems)?,
    };
    if text.trim_start().starts_with("${") {
        let help = "the expression stands here by itself";
        problems.report_with_help(node.span, "expression-syntax", "no \"${\" and \"}\" around it", help);
        return None;
    }
    match compile(text) {
        Ok(expr) => Some((expr.standing(node.span_within(0..text.len())), node.span)),
        Err(found) => {
            crate::template::report(found, 0, node, problems);
            None
        }
    }
}

/// Names and their nodes, those that can't be names left out.
fn entries<'n>(node: &'n Node, problems: &Problems) -> Option<Vec<(&'n str, &'n Node)>> {
    let entries = node.map(problems)?;
    if entries.len() > MAX_LETS {
        let message = format!("at most {MAX_LETS} names, found {}", entries.len());
        problems.report(node.span, "out-of-range", message);
        return None;
    }
    let sound = entries.iter().filter(|(key, _)| {
        let name = key.name.as_str();
        let word = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let problem = match (word, TAKEN.contains(&name)) {
            (true, false) => return true,
            (true, true) => format!("{name:?} means something already: a name under \"let\" hides none"),
            (false, _) => "a name under \"let\" has letters, digits and _, no digit first".to_owned(),
        };
        problems.report(key.span, "name", problem);
        false
    });
    Some(sound.map(|(key, node)| (key.name.as_str(), node)).collect())
}

// === impl Lets ===

impl Lets {
    fn read(entries: &[(&str, &Node)], names: Names<'_>, problems: &Problems) -> Option<Self> {
        let compiled: Vec<_> = entries
            .iter()
            .map(|(name, node)| {
                let (expr, _) = expression(node, problems, |text| compile(text, names))?;
                Some(Let { name: (*name).into(), uses: expr.uses(), expr })
            })
            .collect();
        let mut all = compiled.into_iter().collect::<Option<Vec<Let>>>()?;
        let direct: Vec<u64> = all.iter().map(|of| of.uses.lets).collect();
        for number in 0..all.len() {
            all[number].uses = closure(&all, direct[number], all[number].uses);
        }
        let mut sound = true;
        for (number, of) in all.iter().enumerate().filter(|(number, of)| of.uses.lets & 1 << number != 0) {
            let message = format!("{:?} reads itself: {}", of.name, cycle(&all, &direct, number));
            problems.report(entries[number].1.span, "cycle", message);
            sound = false;
        }
        // whoever reads more names, itself included, comes later: a set without cycles is ordered by that
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|number| all[*number].uses.lets.count_ones());
        let (per_item, once) = order.into_iter().partition(|number| all[*number].uses.item);
        sound.then_some(Self { all, once, per_item })
    }

    fn hidden(&self) -> u64 {
        self.per_item.iter().fold(0, |mask, number| mask | 1 << number)
    }

    fn guard(&self, expr: Expr) -> Guard {
        let uses = closure(&self.all, expr.uses().lets, expr.uses());
        let lets = self.once.iter().copied().filter(|number| uses.lets & 1 << number != 0).collect();
        Guard { expr, lets, reads_payload: uses.payload }
    }
}

/// What is read, itself or through names.
fn closure(all: &[Let], direct: u64, uses: Uses) -> Uses {
    let mut found = Uses { lets: direct, ..uses };
    loop {
        let before = found;
        for (_, of) in all.iter().enumerate().filter(|(number, _)| before.lets & 1 << number != 0) {
            let of = of.uses;
            found =
                Uses { lets: found.lets | of.lets, item: found.item | of.item, payload: found.payload | of.payload };
        }
        if found == before {
            return found;
        }
    }
}

/// `a -> b -> a`, the shortest way.
fn cycle(all: &[Let], direct: &[u64], start: usize) -> String {
    let mut from = vec![None; all.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        if direct[at] & 1 << start != 0 {
            let (mut way, mut back) = (vec![&*all[start].name], at);
            while back != start {
                way.push(&all[back].name);
                back = from[back].unwrap_or(start);
            }
            way.push(&all[start].name);
            way.reverse();
            return way.join(" -> ");
        }
        for next in (0..all.len()).filter(|next| direct[at] & 1 << next != 0) {
            if from[next].is_none() {
                from[next] = Some(at);
                queue.push_back(next);
            }
        }
    }
    all[start].name.to_string()
}
