//! A tree and a scope to a value.

use std::cmp::Ordering;
use std::sync::Arc;

use super::ast::{Comparison, Node};
use super::memory::{Memory, references, size};
use super::trace::{self, Trace};
use super::{EvaluationError, Scope, Value, functions};

pub(super) fn evaluate(root: &Node, scope: &Scope<'_>, max_memory: usize) -> Result<Value, EvaluationError> {
    Evaluator { scope, memory: Memory::new(max_memory), depth: 0, trace: None }.value(root)
}

/// The same, and how it came about.
pub(super) fn traced(
    root: &Node,
    scope: &Scope<'_>,
    max_memory: usize,
) -> (Result<Value, EvaluationError>, Vec<String>) {
    let mut evaluator = Evaluator { scope, memory: Memory::new(max_memory), depth: 0, trace: Some(Trace::new(root)) };
    let value = evaluator.value(root);
    let trace = evaluator.trace.take().unwrap_or_default();
    let lines = match &value {
        Ok(value) => trace.finish(root, value),
        Err(_) => trace.lines,
    };
    (value, lines)
}

/// A value, or the result of a filter, on which the next property applies to each item (E7).
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Plain(Value),
    Filtered(Vec<Value>),
}

impl Outcome {
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Plain(value) => value,
            Self::Filtered(items) => Value::array(items),
        }
    }

    /// Whether it is an array or an object.
    fn has_children(&self) -> bool {
        match self {
            Self::Plain(value) => !value.is_primitive(),
            Self::Filtered(_) => true,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Plain(value) => trace::shown(value),
            Self::Filtered(_) => "Array".to_owned(),
        }
    }

    fn is_truthy(&self) -> bool {
        match self {
            Self::Plain(value) => value.is_truthy(),
            Self::Filtered(_) => true,
        }
    }
}

pub(super) struct Evaluator<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) memory: Memory,
    pub(super) depth: usize,
    /// For debug logs.
    trace: Option<Trace>,
}

impl Evaluator<'_> {
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, EvaluationError> {
        self.node(node).map(Outcome::into_value)
    }

    pub(super) fn node(&mut self, node: &Node) -> Result<Outcome, EvaluationError> {
        if let Some(trace) = &mut self.trace {
            trace.begin(trace::name(node));
        }
        self.depth += 1;
        let outcome = self.unmeasured(node)?;
        self.depth -= 1;
        if let Some(trace) = &mut self.trace {
            trace.end_node(node, outcome.shown());
        }
        let (bytes, complete) = match &outcome {
            Outcome::Plain(value) => (size(value), value.is_primitive()),
            Outcome::Filtered(items) => (references(items.len()), false),
        };
        self.memory.add(self.depth, bytes, complete)?;
        Ok(outcome)
    }

    fn unmeasured(&mut self, node: &Node) -> Result<Outcome, EvaluationError> {
        Ok(Outcome::Plain(match node {
            Node::Literal(value) => value.clone(),
            Node::Context { name, .. } => self.scope.contexts.get(name).cloned().unwrap_or(Value::Null),
            Node::Call { function, arguments } => return functions::call(self, *function, arguments),
            Node::Index { target, key } => {
                let target = self.node(target)?;
                // GitHub's runner asks for no key of what has none.
                let untraced = if target.has_children() { None } else { self.trace.take() };
                let key = self.value(key)?;
                self.trace = untraced.or(self.trace.take());
                return Ok(index(target, &key));
            }
            Node::Filter { target } => {
                let target = self.node(target)?;
                if target.has_children()
                    && let Some(trace) = &mut self.trace
                {
                    trace.begin("Wildcard");
                    trace.end("'*'");
                }
                return Ok(Outcome::Filtered(filter(target)));
            }
            Node::Not(node) => Value::Bool(!self.node(node)?.is_truthy()),
            Node::Compare { first, rest } => {
                // A chain is a tree that leans to the left: the last one stands around the others.
                let inner = rest.len() - 1;
                if let Some(trace) = &mut self.trace {
                    rest[..inner].iter().rev().for_each(|(comparison, _)| trace.begin(comparison.name()));
                }
                let mut left = self.value(first)?;
                for (place, (comparison, right)) in rest.iter().enumerate() {
                    left = Value::Bool(holds(*comparison, &left, &self.value(right)?));
                    if place < inner
                        && let Some(trace) = &mut self.trace
                    {
                        trace.end(&trace::shown(&left));
                    }
                }
                left
            }
            Node::And(nodes) => return self.until(nodes, false),
            Node::Or(nodes) => return self.until(nodes, true),
        }))
    }

    /// The first operand that decides, else the last (E4).
    fn until(&mut self, nodes: &[Node], deciding: bool) -> Result<Outcome, EvaluationError> {
        let (last, before) = nodes.split_last().expect("a chain of operands is never empty");
        for node in before {
            let outcome = self.node(node)?;
            if outcome.is_truthy() == deciding {
                return Ok(outcome);
            }
        }
        self.node(last)
    }
}

fn holds(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let order = |wanted| left.loosely_compare(right) == Some(wanted);
    match comparison {
        Comparison::Equal => left.loosely_equals(right),
        Comparison::NotEqual => !left.loosely_equals(right),
        Comparison::Less => order(Ordering::Less),
        Comparison::LessOrEqual => order(Ordering::Less) || left.loosely_equals(right),
        Comparison::Greater => order(Ordering::Greater),
        Comparison::GreaterOrEqual => order(Ordering::Greater) || left.loosely_equals(right),
    }
}

fn index(target: Outcome, key: &Value) -> Outcome {
    match target {
        Outcome::Plain(target) => Outcome::Plain(item(&target, key).cloned().unwrap_or(Value::Null)),
        Outcome::Filtered(items) => {
            Outcome::Filtered(items.iter().filter_map(|each| item(each, key).cloned()).collect())
        }
    }
}

/// What a key selects (E6); nothing when it is missing, and on primitives.
fn item<'a>(target: &'a Value, key: &Value) -> Option<&'a Value> {
    match target {
        Value::Object(object) => match key {
            Value::Array(_) | Value::Object(_) => None,
            Value::String(key) => object.get(key),
            key => object.get(&key.to_display_string()),
        },
        Value::Array(items) => {
            let position = key.to_number();
            // Also refuses NaN.
            if !(position >= 0.0 && position.floor() <= f64::from(i32::MAX)) {
                return None;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 2^31, floor is meant"
            )]
            let position = position as usize;
            items.get(position)
        }
        _ => None,
    }
}

/// The values below (E7); a second filter flattens one level.
fn filter(target: Outcome) -> Vec<Value> {
    match target {
        Outcome::Plain(target) => children(&target).collect(),
        Outcome::Filtered(items) => items.iter().flat_map(children).collect(),
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = Value> + '_> {
    match value {
        Value::Array(items) => Box::new(Arc::as_ref(items).iter().cloned()),
        Value::Object(object) => Box::new(object.values().cloned()),
        _ => Box::new(std::iter::empty()),
    }
}
