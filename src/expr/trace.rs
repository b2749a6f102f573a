//! How an expression came to its value, as GitHub's runner shows it in debug logs (H8).
//!
//! Source: `ExpressionNode.cs` and its kin in actions/runner: one line when a node is begun, one with its value, two dots a level; then
//! the expression with the values that stood in it.

use std::collections::HashMap;

use super::Value;
use super::ast::{Comparison, Function, Node};

/// What was noted so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) lines: Vec<String>,
    level: usize,
    /// Values of the nodes that the expanded expression shows no parts of, by their address.
    values: HashMap<*const Node, String>,
}

impl Trace {
    pub(super) fn new(root: &Node) -> Self {
        Self { lines: vec![format!("Evaluating: {}", text(root, None))], ..Self::default() }
    }

    fn line(&mut self, text: &str) {
        self.lines.push(format!("{}{text}", "..".repeat(self.level)));
    }

    /// Something is evaluated from here on.
    pub(super) fn begin(&mut self, name: &str) {
        self.line(&format!("Evaluating {name}:"));
        self.level += 1;
    }

    /// Its value.
    pub(super) fn end(&mut self, shown: &str) {
        self.level -= 1;
        self.line(&format!("=> {shown}"));
    }

    /// The value of a whole node.
    pub(super) fn end_node(&mut self, node: &Node, shown: String) {
        self.end(&shown);
        if is_shown_whole(node) {
            self.values.insert(std::ptr::from_ref(node), shown);
        }
    }

    /// The last lines.
    pub(super) fn finish(mut self, root: &Node, value: &Value) -> Vec<String> {
        let (expanded, result) = (text(root, Some(&self.values)), shown(value));
        let is_number_as_text = matches!(value, Value::Number(_)) && expanded == format!("'{result}'");
        if expanded != result && !is_number_as_text {
            self.lines.push(format!("Expanded: {expanded}"));
        }
        self.lines.push(format!("Result: {result}"));
        self.lines
    }
}

/// A value as traces show it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => value.kind().to_owned(),
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Bool(_) | Value::Number(_) => value.to_display_string(),
    }
}

/// What a node is called.
pub(super) fn name(node: &Node) -> &str {
    match node {
        Node::Literal(value) => value.kind(),
        Node::Context { name, .. } => name,
        Node::Call { function, .. } => function.name(),
        Node::Index { .. } | Node::Filter { .. } => "Index",
        Node::Not(_) => "Not",
        // The last one is evaluated last, around the others.
        Node::Compare { rest, .. } => rest.last().map_or("Equal", |(comparison, _)| comparison.name()),
        Node::And(_) => "And",
        Node::Or(_) => "Or",
    }
}

/// Whether the expanded expression has its value in its place, rather than its parts.
fn is_shown_whole(node: &Node) -> bool {
    match node {
        Node::Call { function, .. } => {
            !matches!(function, Function::Contains | Function::StartsWith | Function::EndsWith)
        }
        Node::Context { .. } | Node::Index { .. } | Node::Filter { .. } => true,
        Node::Literal(_) | Node::Not(_) | Node::Compare { .. } | Node::And(_) | Node::Or(_) => false,
    }
}

/// The text of a node, with the values that are known.
fn text(node: &Node, values: Option<&HashMap<*const Node, String>>) -> String {
    if let Some(value) = values.and_then(|values| values.get(&std::ptr::from_ref(node))) {
        return value.clone();
    }
    let joined =
        |nodes: &[Node], between: &str| nodes.iter().map(|node| text(node, values)).collect::<Vec<_>>().join(between);
    match node {
        Node::Literal(value) => shown(value),
        Node::Context { name, .. } => name.clone(),
        Node::Call { function, arguments } => format!("{}({})", function.name(), joined(arguments, ", ")),
        Node::Index { target, key } => match &**key {
            Node::Literal(Value::String(name)) if values.is_none() && is_keyword(name) => {
                format!("{}.{name}", text(target, values))
            }
            key => format!("{}[{}]", text(target, values), text(key, values)),
        },
        Node::Filter { target } => format!("{}[*]", text(target, values)),
        Node::Not(node) => format!("!{}", text(node, values)),
        Node::Compare { first, rest } => rest.iter().fold(text(first, values), |left, (comparison, right)| {
            format!("({left} {} {})", comparison.sign(), text(right, values))
        }),
        Node::And(nodes) => format!("({})", joined(nodes, " && ")),
        Node::Or(nodes) => format!("({})", joined(nodes, " || ")),
    }
}

/// Whether a property can be written behind a dot.
fn is_keyword(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

impl Comparison {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::NotEqual => "NotEqual",
            Self::Less => "LessThan",
            Self::LessOrEqual => "LessThanOrEqual",
            Self::Greater => "GreaterThan",
            Self::GreaterOrEqual => "GreaterThanOrEqual",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}
