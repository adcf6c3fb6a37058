//! The `cel` crate's syntax tree to a plan. What this version has not is refused with its place; what
//! names mean is in `names`.

use cel::common::ast::{CallExpr, Expr as Syntax, IdedExpr, LiteralValue, SourceInfo, operators};

use super::{Arithmetic, Expr, Literal, Names, Op, Order, Term, Uses, Wanted, check, parse, parse::Problem};

/// Deeper nesting of operations is refused: evaluation recurses.
const MAX_NESTING: usize = 64;
/// Until [`Expr::standing`] says where.
const NOWHERE: yaml::Span = yaml::Span { start: 0, end: 0 };

/// Compiles an expression; everything that is wrong with it is in the error.
pub(crate) fn compile(text: &str, names: Names<'_>) -> Result<Expr, Vec<Problem>> {
    let (syntax, info) = parse::parse(text).map_err(|problem| vec![problem])?;
    let mut compiler =
        Compiler { text, names, info, depth: 0, locals: Vec::new(), problems: Vec::new(), uses: Uses::default() };
    match compiler.term(&syntax) {
        Some(root) if compiler.problems.is_empty() => {
            Ok(Expr { text: text.into(), root, uses: compiler.uses, at: NOWHERE })
        }
        _ => Err(compiler.problems),
    }
}

/// The same for a place that takes only some types.
pub(crate) fn compile_for(wanted: Wanted, text: &str, names: Names<'_>) -> Result<Expr, Vec<Problem>> {
    let expr = compile(text, names)?;
    check::wanted(&expr.root, wanted).map_err(|problem| vec![problem])?;
    Ok(expr)
}

pub(super) struct Compiler<'c> {
    pub(super) text: &'c str,
    pub(super) names: Names<'c>,
    info: SourceInfo,
    depth: usize,
    /// The variables of the macros around, the innermost last.
    pub(super) locals: Vec<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) uses: Uses,
}

/// `None`: what is wrong is among the problems.
pub(super) type Compiled<T = Term> = Option<T>;

// === impl Compiler ===

impl Compiler<'_> {
    pub(super) fn term(&mut self, syntax: &IdedExpr) -> Compiled {
        if self.depth == MAX_NESTING {
            let message = format!("nested deeper than {MAX_NESTING} operations");
            return self.refuse(self.place(syntax), "expression-too-deep", message);
        }
        self.depth += 1;
        let term = self.unchecked(syntax);
        self.depth -= 1;
        let term = term?;
        match check::checked(term) {
            Ok(term) => Some(term),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn unchecked(&mut self, syntax: &IdedExpr) -> Compiled {
        let place = self.place(syntax);
        match &syntax.expr {
            Syntax::Literal(literal) => {
                let literal = self.literal(literal, place)?;
                Some(Term { op: Op::Literal(literal), span: place })
            }
            Syntax::Ident(_) => self.path(syntax),
            Syntax::Select(_) => self.path(syntax),
            Syntax::Call(call) => self.call(syntax, call),
            Syntax::List(list) => {
                let terms = self.terms(&list.elements)?;
                Some(Term { op: Op::List(terms), span: place })
            }
            Syntax::Map(map) => self.map(map, place),
            Syntax::Struct(_) => self.refuse(place, "expression-call", "a message of a named type has no meaning here"),
            Syntax::Comprehension(_) => self.refuse(place, "expression-syntax", "not an expression"),
            Syntax::Unspecified => self.refuse(place, "expression-syntax", "not an expression"),
        }
    }

    fn literal(&mut self, literal: &LiteralValue, place: (u32, u32)) -> Compiled<Literal> {
        match literal {
            LiteralValue::Null => Some(Literal::Null),
            LiteralValue::Boolean(value) => Some(Literal::Bool(*value.inner())),
            LiteralValue::Int(value) => Some(Literal::Int(*value.inner())),
            LiteralValue::Double(value) if value.inner().is_finite() => Some(Literal::Double(*value.inner())),
            LiteralValue::Double(_) => self.refuse(place, "expression-number", "number out of range"),
            LiteralValue::String(text) => Some(Literal::Text(text.inner().into())),
            LiteralValue::UInt(_) => self.not_yet(place, "an unsigned literal"),
            LiteralValue::Bytes(_) => self.not_yet(place, "a bytes literal"),
        }
    }

    fn call(&mut self, syntax: &IdedExpr, call: &CallExpr) -> Compiled {
        let span = self.place(syntax);
        let name = call.func_name.as_str();
        let op = match (name, call.args.as_slice()) {
            (operators::INDEX, _) => return self.path(syntax),
            (operators::ADD, _) => Op::Sum(self.sum(syntax)?),
            (operators::LOGICAL_NOT, [of]) => Op::Not(Box::new(self.term(of)?)),
            ("has", [of]) if call.target.is_none() => return self.has(of, span),
            (operators::NEGATE, [of]) => Op::Negate(Box::new(self.term(of)?)),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let (condition, yes, no) = (self.term(condition), self.term(yes), self.term(no));
                Op::Conditional(Box::new([condition?, yes?, no?]))
            }
            (operators::IN, [item, IdedExpr { expr: Syntax::List(list), .. }]) => {
                let item = self.term(item);
                let list = self.terms(&list.elements);
                Op::InList(Box::new(item?), list?)
            }
            ("size", [of]) if call.target.is_none() => Op::Size(Box::new(self.term(of)?)),
            ("size", []) => match &call.target {
                Some(of) => Op::Size(Box::new(self.term(of)?)),
                None => return self.refuse(span, "expression-call", "size takes one value"),
            },
            (_, [left, right]) if binary(name).is_some() => {
                let (left, right) = (self.term(left), self.term(right));
                let sides = Box::new([left?, right?]);
                match binary(name) {
                    Some(_) if name == operators::SUBSTRACT && check::is_time(&*sides) => Op::Since(sides),
                    Some(make) => make(sides),
                    None => return self.function(call, span),
                }
            }
            _ => return self.function(call, span),
        };
        Some(Term { op, span })
    }

    pub(super) fn terms(&mut self, syntax: &[IdedExpr]) -> Compiled<Box<[Term]>> {
        let terms: Vec<_> = syntax.iter().map(|syntax| self.term(syntax)).collect();
        terms.into_iter().collect()
    }

    /// `a + b + c` leans to the left in the syntax; as one list it is neither deep nor copied at each step.
    fn sum(&mut self, syntax: &IdedExpr) -> Compiled<Box<[Term]>> {
        let (mut at, mut right_to_left) = (syntax, Vec::new());
        while let Syntax::Call(call) = &at.expr
            && call.func_name == operators::ADD
            && let [left, right] = call.args.as_slice()
        {
            right_to_left.push(right);
            at = left;
        }
        let first = self.term(at);
        let rest: Vec<_> = right_to_left.iter().rev().map(|syntax| self.term(syntax)).collect();
        std::iter::once(first).chain(rest).collect()
    }

    /// From the first byte to the last, as far as the parser tells: it knows where each token stands.
    pub(super) fn place(&self, syntax: &IdedExpr) -> (u32, u32) {
        let (start, end) = self.extent(syntax);
        if start > end { (0, self.text.len() as u32) } else { (start, end) }
    }

    /// Of a node and all that it is made of; the end is before the start where the parser says nothing.
    fn extent(&self, at: &IdedExpr) -> (u32, u32) {
        let (mut start, mut end) = self.info.offset_for(at.id).map_or((u32::MAX, 0), |(from, stop)| (from, stop + 1));
        let mut parts: Vec<&IdedExpr> = Vec::new();
        let mut closing = None;
        match &at.expr {
            Syntax::Select(select) => {
                end += select.field.len() as u32;
                parts.push(&select.operand);
            }
            Syntax::Call(call) => {
                let named = call.func_name.starts_with(char::is_alphabetic);
                if named && call.target.is_none() {
                    start = start.saturating_sub(call.func_name.len() as u32);
                }
                closing = named.then_some(')').or((call.func_name == operators::INDEX).then_some(']'));
                parts.extend(call.target.as_deref());
                parts.extend(&call.args);
            }
            Syntax::List(list) => {
                closing = Some(']');
                parts.extend(&list.elements);
            }
            _ => {}
        }
        for part in parts {
            let (from, to) = self.extent(part);
            (start, end) = (start.min(from), end.max(to));
        }
        let end = end.min(self.text.len() as u32);
        (start, closing.map_or(end, |closing| self.behind(closing, end)))
    }

    /// The parser says nothing of where a call's arguments, an index or a list end.
    fn behind(&self, closing: char, end: u32) -> u32 {
        let rest = self.text.get(end as usize..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        if rest[blank..].starts_with(closing) { end + blank as u32 + 1 } else { end }
    }

    pub(super) fn not_yet<T>(&mut self, place: (u32, u32), what: &str) -> Compiled<T> {
        self.refuse(place, "not-supported", format!("{what} is not supported yet"))
    }

    pub(super) fn refuse<T>(
        &mut self,
        place: (u32, u32),
        code: &'static str,
        message: impl Into<String>,
    ) -> Compiled<T> {
        self.problems.push(Problem::new(place.0 as usize..place.1 as usize, code, message));
        None
    }

    pub(super) fn refuse_with_help<T>(
        &mut self,
        place: (u32, u32),
        code: &'static str,
        message: impl Into<String>,
        help: String,
    ) -> Compiled<T> {
        self.problems.push(Problem::new(place.0 as usize..place.1 as usize, code, message).with_help(help));
        None
    }
}

/// Makes an operation of its two sides.
type Binary = fn(Box<[Term; 2]>) -> Op;

/// What an operator with two sides becomes.
fn binary(operator: &str) -> Option<Binary> {
    Some(match operator {
        operators::SUBSTRACT => |sides| Op::Arithmetic(Arithmetic::Subtract, sides),
        operators::MULTIPLY => |sides| Op::Arithmetic(Arithmetic::Multiply, sides),
        operators::DIVIDE => |sides| Op::Arithmetic(Arithmetic::Divide, sides),
        operators::MODULO => |sides| Op::Arithmetic(Arithmetic::Remainder, sides),
        operators::EQUALS => |sides| Op::Equal { sides, negated: false },
        operators::NOT_EQUALS => |sides| Op::Equal { sides, negated: true },
        operators::LESS => |sides| Op::Order(Order::Less, sides),
        operators::LESS_EQUALS => |sides| Op::Order(Order::LessOrEqual, sides),
        operators::GREATER => |sides| Op::Order(Order::Greater, sides),
        operators::GREATER_EQUALS => |sides| Op::Order(Order::GreaterOrEqual, sides),
        operators::LOGICAL_AND => Op::And,
        operators::LOGICAL_OR => Op::Or,
        operators::IN => Op::InValue,
        _ => return None,
    })
}
