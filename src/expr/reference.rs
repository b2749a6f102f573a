//! What an expression reads, for lints and for the planner.

use super::Value;
use super::ast::Node;

/// One use of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// As written.
    pub context: String,
    /// What follows it.
    pub path: Vec<Segment>,
    /// Byte offset of the context's name in the expression.
    pub offset: usize,
}

impl Reference {
    /// The name of the property at this place of the path, if it is written out.
    #[must_use]
    pub fn property(&self, position: usize) -> Option<&str> {
        match self.path.get(position) {
            Some(Segment::Property(name)) => Some(name),
            _ => None,
        }
    }
}

/// One step of a path behind a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// `.name` or `['name']`.
    Property(String),
    /// `[expression]`.
    Computed,
    /// `.*` or `[*]`.
    All,
}

pub(super) fn references(root: &Node) -> Vec<Reference> {
    let mut found = Vec::new();
    visit(root, Vec::new(), &mut found);
    found
}

/// `path` holds the segments behind this node, the last one first.
fn visit(node: &Node, mut path: Vec<Segment>, found: &mut Vec<Reference>) {
    match node {
        Node::Context { name, offset } => {
            path.reverse();
            found.push(Reference { context: name.clone(), path, offset: *offset });
        }
        Node::Index { target, key } => {
            path.push(match &**key {
                Node::Literal(Value::String(name)) => Segment::Property(name.to_string()),
                Node::Literal(value @ (Value::Number(_) | Value::Bool(_))) => {
                    Segment::Property(value.to_display_string())
                }
                _ => Segment::Computed,
            });
            visit(target, path, found);
            visit(key, Vec::new(), found);
        }
        Node::Filter { target } => {
            path.push(Segment::All);
            visit(target, path, found);
        }
        Node::Literal(_) => {}
        Node::Call { arguments, .. } => arguments.iter().for_each(|node| visit(node, Vec::new(), found)),
        Node::Not(node) => visit(node, Vec::new(), found),
        Node::Compare { first, rest } => {
            visit(first, Vec::new(), found);
            rest.iter().for_each(|(_, node)| visit(node, Vec::new(), found));
        }
        // The path behind a choice applies to each operand.
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| visit(node, path.clone(), found)),
    }
}
