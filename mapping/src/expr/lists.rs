//! Functions of whole arrays, by the names of CEL's lists extension. What is done to each element is in `list`.

use std::cmp::Ordering;

use super::{
    Term,
    call::Arguments,
    frame::Frame,
    list::MAX_ELEMENTS,
    number::Number,
    value::{Evaluated, Value},
};

/// The first that has no order to the first of all.
fn without_order<'v, 'a: 'v>(mut items: impl Iterator<Item = &'v Value<'a>>) -> Option<&'v Value<'a>> {
    let first = items.next()?;
    // one alone must have an order too: to itself
    std::iter::once(first).chain(items).find(|item| item.order(first).is_none())
}

/// Equal ones stay in their order. Beside a computed decimal all numbers are compared as it is, in binary: two decimals of
/// the payload that differ may both be equal to it, and an order that says both is none.
fn sort<'a, T>(items: &mut [T], value: impl for<'t> Fn(&'t T) -> &'t Value<'a>) {
    let is_binary = items.iter().any(|item| matches!(value(item), Value::Number(Number::Double(_))));
    items.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        let order = match is_binary {
            true => a.exact().zip(b.exact()).and_then(|(a, b)| a.as_f64().partial_cmp(&b.as_f64())),
            false => a.order(b),
        };
        order.unwrap_or(Ordering::Equal)
    });
}

// === impl Term ===

impl Term {
    /// Takes the steps that it takes to sort so many by comparison.
    fn charge_sorting<'v, 'a: 'v>(
        &self,
        frame: &Frame<'_, '_>,
        items: impl ExactSizeIterator<Item = &'v Value<'a>>,
    ) -> Evaluated<()> {
        let rounds = items.len().checked_ilog2().unwrap_or(0) as usize;
        self.charge(frame, items.len() * rounds)?;
        self.charge_bytes(frame, items.map(Value::bytes).sum::<usize>() * rounds)
    }

    /// Sorts by the first of each pair; equal ones stay in their order. `by` is what made the keys.
    pub(super) fn sorted_by_key<'a>(
        &self,
        keyed: &mut [(Value<'a>, Value<'a>)],
        by: &Self,
        frame: &Frame<'_, '_>,
    ) -> Evaluated<()> {
        if let Some(odd) = without_order(keyed.iter().map(|(key, _)| key)) {
            return Err(by.wrong_type("numbers, strings, timestamps or durations only", odd));
        }
        self.charge_sorting(frame, keyed.iter().map(|(key, _)| key))?;
        sort(keyed, |(key, _)| key);
        Ok(())
    }
}

// === impl Arguments ===

impl<'a> Arguments<'_, '_, 'a> {
    /// What is in the first argument, counted and charged before it is copied.
    fn elements(&mut self, wanted: &str) -> Evaluated<Vec<Value<'a>>> {
        let list = self.take(0);
        let Some(items) = list.items() else { return Err(self.terms[0].wrong_type(wanted, &list)) };
        let count = list.count().unwrap_or(0);
        if count > MAX_ELEMENTS {
            return Err(self.call.too_many());
        }
        self.call.charge(self.frame, count)?;
        Ok(items.collect())
    }

    /// Numbers, texts, timestamps or durations; equal ones stay in their order.
    pub(super) fn sorted(&mut self) -> Evaluated<Value<'a>> {
        let mut items = self.elements("an array")?;
        if let Some(odd) = without_order(items.iter()) {
            return Err(self.terms[0].wrong_type("an array of numbers, strings, timestamps or durations only", odd));
        }
        self.call.charge_sorting(self.frame, items.iter())?;
        sort(&mut items, |item| item);
        Ok(Value::List(items.into()))
    }

    /// The first of those that are equal.
    pub(super) fn distinct(&mut self) -> Evaluated<Value<'a>> {
        let mut kept: Vec<Value<'a>> = Vec::new();
        for item in self.elements("an array")? {
            if item.is_container() {
                return Err(self.terms[0].wrong_type("an array of values that can be compared", &item));
            }
            self.call.charge(self.frame, kept.len() * (1 + item.bytes() / 64))?;
            if !kept.iter().any(|known| known.equals(&item) == Some(true)) {
                kept.push(item);
            }
        }
        Ok(Value::List(kept.into()))
    }

    pub(super) fn sliced(&mut self) -> Evaluated<Value<'a>> {
        let items = self.elements("an array")?;
        let (from, to) = (self.index(1)?, self.index(2)?);
        match items.get(from..to) {
            Some(part) => Ok(Value::List(part.into())),
            None => {
                let problem = format!("{from} to {to} is no part of an array of {} elements", items.len());
                Err(self.call.fault(problem))
            }
        }
    }

    /// The elements of arrays in place of these, so many levels deep; one if none are given.
    pub(super) fn flattened(&mut self) -> Evaluated<Value<'a>> {
        let depth = if self.given(1) { self.index(1)? } else { 1 };
        let mut made = Vec::new();
        for item in self.elements("an array")? {
            self.flatten(item, depth, &mut made)?;
        }
        Ok(Value::List(made.into()))
    }

    fn flatten(&self, item: Value<'a>, depth: usize, made: &mut Vec<Value<'a>>) -> Evaluated<()> {
        self.call.charge(self.frame, 1)?;
        if let Some(items) = item.items().filter(|_| depth > 0) {
            for item in items {
                self.flatten(item, depth - 1, made)?;
            }
            return Ok(());
        }
        if made.len() == MAX_ELEMENTS {
            return Err(self.call.too_many());
        }
        made.push(item);
        Ok(())
    }

    /// From 0 to before a number.
    pub(super) fn range(&mut self) -> Evaluated<Value<'a>> {
        let count = self.index(0)?;
        if count > MAX_ELEMENTS {
            return Err(self.call.too_many());
        }
        self.call.charge(self.frame, count)?;
        Ok(Value::List((0..count as i64).map(|number| Value::Number(Number::Int(number))).collect()))
    }

    /// The characters of a text or the elements of an array, the other way round.
    pub(super) fn reversed(&mut self) -> Evaluated<Value<'a>> {
        match self.take(0) {
            Value::Text(text) => Ok(Value::Text(text.chars().rev().collect::<String>().into())),
            other => {
                self.put(0, other);
                Ok(Value::List(self.elements("a string or an array")?.into_iter().rev().collect()))
            }
        }
    }
}
