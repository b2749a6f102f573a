//! The syntax tree. Chains of one operator are flat, so the tree is never deeper than the depth limit allows.

use super::{StatusFunction, Value};

#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    /// A context, spelled as written.
    Context {
        name: String,
        offset: usize,
    },
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    /// `target.name` and `target[key]`.
    Index {
        target: Box<Node>,
        key: Box<Node>,
    },
    /// `target.*` and `target[*]`.
    Filter {
        target: Box<Node>,
    },
    Not(Box<Node>),
    /// `first op a op b …`, all of one precedence, from left to right.
    Compare {
        first: Box<Node>,
        rest: Vec<(Comparison, Node)>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
}

impl Node {
    /// Whether the predicate holds for this node or one below it.
    pub(super) fn any(&self, predicate: &mut dyn FnMut(&Node) -> bool) -> bool {
        if predicate(self) {
            return true;
        }
        match self {
            Self::Literal(_) | Self::Context { .. } => false,
            Self::Call { arguments, .. } => arguments.iter().any(|node| node.any(predicate)),
            Self::Index { target, key } => target.any(predicate) || key.any(predicate),
            Self::Filter { target } => target.any(predicate),
            Self::Not(node) => node.any(predicate),
            Self::Compare { first, rest } => first.any(predicate) || rest.iter().any(|(_, node)| node.any(predicate)),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(|node| node.any(predicate)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Case,
    Contains,
    EndsWith,
    Format,
    FromJson,
    Join,
    StartsWith,
    ToJson,
    HashFiles,
    Status(StatusFunction),
}
