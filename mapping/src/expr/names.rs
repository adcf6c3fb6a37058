//! What the names of an expression mean: paths into the payload, headers, captures, the principal, the time.

use cel::common::ast::{Expr as Syntax, IdedExpr, LiteralValue, operators};
use envelope::json::Name;

use super::{
    Op, Own, PayloadKind, Subject, Term,
    compile::{Compiled, Compiler},
    path::{Path, Step},
};

// === impl Compiler ===

impl Compiler<'_> {
    /// `has(of)`, which stands at `span`.
    pub(super) fn has(&mut self, of: &IdedExpr, span: (u32, u32)) -> Compiled {
        let op = match self.term(of)?.op {
            Op::Payload(path) if !path.0.is_empty() => Op::HasPayload(path),
            Op::Header(name) => Op::HasHeader(name),
            Op::About(attribute) => Op::HasAbout(attribute),
            Op::Own(own) if own.has_steps() => Op::HasOwn(own),
            Op::Member(of, path) => Op::HasMember(of, path),
            _ => return self.refuse(span, "expression-call", "has takes a path, as in has(payload.unit)"),
        };
        Some(Term { op, span })
    }

    /// `root.key["key"][0]`, where the root is a name or any other term.
    pub(super) fn path(&mut self, syntax: &IdedExpr) -> Compiled {
        let span = self.place(syntax);
        let (mut at, mut steps) = (syntax, Vec::new());
        loop {
            match &at.expr {
                Syntax::Select(select) => {
                    steps.push(Step::Key(Name::new(&select.field)));
                    at = &select.operand;
                }
                Syntax::Call(call) if call.func_name == operators::INDEX => {
                    let [of, index] = call.args.as_slice() else {
                        return self.refuse(span, "expression-syntax", "expected one index");
                    };
                    match &index.expr {
                        Syntax::Literal(literal) => steps.push(self.step(literal, index)?),
                        _ => break,
                    }
                    at = of;
                }
                _ => break,
            }
        }
        steps.reverse();
        let op = match &at.expr {
            Syntax::Ident(name) => match self.locals.iter().rev().position(|local| local == name) {
                Some(outward) => member(Term { op: Op::Local(outward), span: self.place(at) }, steps),
                None => self.resolve(name, steps, span, self.place(at))?,
            },
            Syntax::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                let (of, index) = (self.term(&call.args[0]), self.term(&call.args[1]));
                member(Term { op: Op::Index(Box::new([of?, index?])), span: self.place(at) }, steps)
            }
            _ => member(self.term(at)?, steps),
        };
        Some(Term { op, span })
    }

    fn step(&mut self, literal: &LiteralValue, index: &IdedExpr) -> Compiled<Step> {
        let place = self.place(index);
        match literal {
            LiteralValue::String(key) => Some(Step::Key(Name::new(key.inner()))),
            LiteralValue::Int(index) => match usize::try_from(*index.inner()) {
                Ok(index) => Some(Step::Index(index)),
                Err(_) => self.refuse(place, "expression-index", "an index counts from 0"),
            },
            _ => self.refuse(place, "expression-index", "expected the number of an element or the key of a member"),
        }
    }

    fn resolve(&mut self, root: &str, steps: Vec<Step>, span: (u32, u32), place: (u32, u32)) -> Compiled<Op> {
        let field = match steps.as_slice() {
            [Step::Key(key)] => Some(&**key),
            _ => None,
        };
        if let Some(number) = self.names.own.lets.iter().position(|name| **name == *root) {
            if self.names.own.hidden & 1 << number != 0 {
                let message = format!("\"{root}\" is made of the item: only \"envelope\" has one");
                return self.refuse(place, "unknown-name", message);
            }
            self.uses.lets |= 1 << number;
            return Some(Op::Own(Own::Let(number, Path(steps))));
        }
        if let Some(found) = self.about(root, &steps, span) {
            return found;
        }
        let inbound = self.names.subject == Subject::Inbound;
        match (root, field) {
            ("item" | "index", _) if self.names.own.item => self.item(root, steps, span),
            ("item" | "index", _) => {
                let message = format!("there is no {root} here: \"each\" gives one to \"envelope\" and to \"let\"");
                self.refuse(place, "unknown-name", message)
            }
            ("payload", _) => self.payload(steps, span),
            ("headers" | "address" | "principal", _) if !inbound => {
                self.refuse_with_help(place, "unknown-name", format!("there is no {root} here"), self.scope())
            }
            ("headers", Some(name)) => Some(Op::Header(name.to_ascii_lowercase().into())),
            ("headers", None) => self.refuse(span, "unknown-name", "expected the name of a header, as in headers.etag"),
            ("address", name) => self.capture(name, span),
            ("principal", Some("id")) => Some(Op::PrincipalId),
            ("principal", Some("domain")) => Some(Op::PrincipalDomain),
            ("principal", _) => self.refuse(span, "unknown-name", "expected principal.id or principal.domain"),
            ("now", _) if steps.is_empty() => Some(Op::Now),
            ("now", _) => self.refuse(span, "unknown-name", "now has no members"),
            ("envelope", _) => {
                let message = "there is no envelope here: a mapping with \"to\" and a reply have one";
                self.refuse(place, "unknown-name", message)
            }
            ("let", _) => {
                let help = "a name under \"let\" is used as it stands there, without \"let.\"".to_owned();
                self.refuse_with_help(place, "unknown-name", "\"let\" is no name", help)
            }
            _ => {
                let shown: String = root.chars().take(64).collect();
                let help = match (self.subtracted_key(place.0), self.meant(root)) {
                    (Some(key), _) => format!("a key with a dash is written [\"{key}\"]; {}", self.scope()),
                    (None, Some(near)) => format!("did you mean {near}? {}", self.scope()),
                    (None, None) => self.scope(),
                };
                self.refuse_with_help(place, "unknown-name", format!("unknown name {shown:?}"), help)
            }
        }
    }

    fn capture(&mut self, name: Option<&str>, span: (u32, u32)) -> Compiled<Op> {
        let Some(captures) = self.names.captures else { return Some(Op::Capture(0)) };
        if let Some((_, segment)) = captures.iter().find(|(capture, _)| Some(&**capture) == name) {
            return Some(Op::Capture(*segment));
        }
        let all: Vec<_> = captures.iter().map(|(name, _)| format!("address.{name}")).collect();
        let known: Vec<&str> = captures.iter().map(|(name, _)| &**name).collect();
        let help = match name.and_then(|name| yaml::nearest(name, &known)) {
            _ if all.is_empty() => "the address captures nothing: write {name} for a segment of it".to_owned(),
            Some(near) => format!("did you mean address.{near}? captured: {}", all.join(", ")),
            None => format!("captured: {}", all.join(", ")),
        };
        self.refuse_with_help(span, "unknown-name", "not a capture of the address", help)
    }

    /// Every name that may begin a path here.
    fn known(&self) -> Vec<&str> {
        let own = &self.names.own;
        let hidden = |number: usize| own.hidden & 1 << number != 0;
        let lets = own.lets.iter().enumerate().filter(|(number, _)| !hidden(*number)).map(|(_, name)| &**name);
        let item = own.item.then_some(["item", "index"]).into_iter().flatten();
        let locals = self.locals.iter().map(String::as_str);
        self.names.subject.scope().iter().copied().chain(item).chain(lets).chain(locals).collect()
    }

    /// The name that was misspelled; of a short one the first letter must be right.
    fn meant(&self, root: &str) -> Option<&str> {
        let near = yaml::nearest(root, &self.known())?;
        (root.len() > 3 || near.chars().next() == root.chars().next()).then_some(near)
    }

    /// What an error says is in scope.
    fn scope(&self) -> String {
        format!("in scope: {}, table()", self.known().join(", "))
    }

    fn item(&mut self, root: &str, steps: Vec<Step>, span: (u32, u32)) -> Compiled<Op> {
        self.uses.item = true;
        match root {
            "item" => Some(Op::Own(Own::Item(Path(steps)))),
            _ if steps.is_empty() => Some(Op::Own(Own::Index)),
            _ => self.refuse(span, "unknown-name", "index is a number and has no members"),
        }
    }

    fn payload(&mut self, steps: Vec<Step>, span: (u32, u32)) -> Compiled<Op> {
        self.uses.payload = true;
        match self.names.payload {
            PayloadKind::Json => Some(Op::Payload(Path(steps))),
            PayloadKind::Text if steps.is_empty() => Some(Op::PayloadText),
            PayloadKind::Text => {
                self.refuse(span, "unknown-name", "a payload decoded as text is one string without members")
            }
            PayloadKind::Nothing => {
                let help = self.scope();
                self.refuse_with_help(span, "unknown-name", "there is no payload here", help)
            }
            PayloadKind::Bytes => {
                self.refuse(span, "unknown-name", "a payload decoded as bytes can't be read by expressions")
            }
        }
    }

    /// `payload.line-id` subtracts: what its author meant, if a name directly behind a minus is unknown.
    fn subtracted_key(&self, start: u32) -> Option<String> {
        let (before, after) = self.text.split_at_checked(start as usize)?;
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let before = before.strip_suffix('-')?;
        let from = before.rfind(|c| !word(c)).map_or(0, |at| at + 1);
        let to = after.find(|c| !word(c)).unwrap_or(after.len());
        before[..from].ends_with('.').then(|| format!("{}-{}", &before[from..], &after[..to]))
    }
}

fn member(of: Term, steps: Vec<Step>) -> Op {
    match steps.is_empty() {
        true => of.op,
        false => Op::Member(Box::new(of), Path(steps)),
    }
}
