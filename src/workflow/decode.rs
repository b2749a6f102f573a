//! Nodes × shapes → tokens, and everything GitHub would refuse on the way.
//!
//! Faults are collected, never the first one only; a faulty node yields [`Token::Null`], which nobody sees because a
//! file with an error has no model.
//!
//! Pure: no I/O, no clock, no async.

use std::collections::HashSet;

use super::expression::{self, Scalar};
use super::lint;
use super::shape::{MapShape, Shape};
use super::token::Token;
use super::yaml::{At, Content, Node, NodeId};
use crate::diagnostic::{Diagnostic, Severity, codes, nearest};
use crate::expr::{Expression, Fault, Names, SyntaxError};

/// A file with more faults than this is not a workflow; the rest is not listed.
const MOST_PROBLEMS: usize = 200;

/// A diagnostic that does not know its place in the text yet.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) diagnostic: Diagnostic,
    pub(super) at: At,
}

/// Collects problems while nodes become tokens.
pub(super) struct Decoder<'a> {
    /// What expressions may refer to at the place being decoded.
    pub(super) scope: lint::Scope,
    path: &'a str,
    problems: Vec<Problem>,
    errors: usize,
}

/// One spelling of a mapping: the keys it may have, and those it must.
pub(super) struct Variant {
    pub(super) keys: &'static [&'static str],
    pub(super) required: &'static [&'static str],
}

/// The known keys of a mapping, in file order.
pub(super) struct Fields<'n> {
    pub(super) pairs: Vec<(&'n str, &'n Node, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.pairs.iter().find(|(name, ..)| *name == key).map(|(.., value)| *value)
    }

    /// The node of a key itself.
    pub(super) fn key(&self, key: &str) -> Option<&'n Node> {
        self.pairs.iter().find(|(name, ..)| *name == key).map(|(_, key, _)| *key)
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(path: &'a str) -> Self {
        Self { scope: lint::Scope::default(), path, problems: Vec::new(), errors: 0 }
    }

    pub(super) fn path(&self) -> &'a str {
        self.path
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Records a fault at a node.
    pub(super) fn error(&mut self, code: &'static str, at: NodeId, message: impl Into<String>) -> &mut Problem {
        let diagnostic = Diagnostic::error(code, self.path, message);
        self.push(diagnostic, At::Node(at))
    }

    /// Records advice at a node.
    pub(super) fn warning(&mut self, code: &'static str, at: NodeId, message: impl Into<String>) -> &mut Problem {
        let diagnostic = Diagnostic::warning(code, self.path, message);
        self.push(diagnostic, At::Node(at))
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic, at: At) -> &mut Problem {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if self.problems.len() >= MOST_PROBLEMS {
            self.problems.pop();
        }
        self.problems.push(Problem { diagnostic, at });
        self.problems.last_mut().expect("was pushed in the line above")
    }

    /// The keys of a mapping that has several spellings: each key rules out the spellings that lack it, as GitHub's
    /// reader does. Gives the spelling that is left, and the keys it knows. When the keys do not tell which one is
    /// meant, that is a fault, and the first of them is given so that the values are looked at all the same.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, variants: &[Variant]) -> Option<(usize, Fields<'n>)> {
        let Content::Map(pairs) = &node.content else {
            self.wrong_type(node, "a mapping");
            return None;
        };
        let mut left: Vec<usize> = (0..variants.len()).collect();
        let mut seen = HashSet::new();
        let mut fields = Fields { pairs: Vec::new() };
        // A key that is an expression is refused, but might have been any of those that are missing.
        let mut open = false;
        for (key, value) in pairs {
            let Some(name) = self.plain_key(key) else {
                open |= key.text().is_some();
                continue;
            };
            if !self.first_of_its_name(&mut seen, key, name) {
                continue;
            }
            let fitting: Vec<usize> = left.iter().copied().filter(|&at| variants[at].keys.contains(&name)).collect();
            if fitting.is_empty() {
                self.unknown_key(key, name, variants, &left);
                continue;
            }
            left = fitting;
            fields.pairs.push((name, key, value));
        }
        if left.len() > 1 {
            let complete: Vec<usize> = left
                .iter()
                .copied()
                .filter(|&at| variants[at].required.iter().all(|name| fields.get(name).is_some()))
                .collect();
            if complete.is_empty() {
                let wanted: Vec<&str> = left.iter().flat_map(|&at| variants[at].required.iter().copied()).collect();
                self.error(
                    codes::MISSING_KEY,
                    node.id,
                    format!(
                        "There's not enough info to determine what you meant. Add one of these properties: {}",
                        wanted.join(", ")
                    ),
                );
                return Some((left[0], fields));
            }
            left = complete;
        }
        let chosen = left[0];
        for name in variants[chosen].required.iter().filter(|_| !open) {
            if fields.get(name).is_none() {
                self.missing_key(node, name);
            }
        }
        Some((chosen, fields))
    }

    /// The keys of a mapping with one spelling.
    pub(super) fn only_fields<'n>(&mut self, node: &'n Node, variant: &Variant) -> Option<Fields<'n>> {
        self.fields(node, std::slice::from_ref(variant)).map(|(_, fields)| fields)
    }

    /// The pairs of a mapping with free keys: name, key, value. Expressions are no names here.
    pub(super) fn named_pairs<'n>(&mut self, node: &'n Node) -> Vec<(&'n str, &'n Node, &'n Node)> {
        let Content::Map(pairs) = &node.content else {
            self.wrong_type(node, "a mapping");
            return Vec::new();
        };
        let mut seen = HashSet::new();
        let mut named = Vec::new();
        for (key, value) in pairs {
            let Some(name) = self.plain_key(key) else { continue };
            if self.first_of_its_name(&mut seen, key, name) {
                named.push((name, key, value));
            }
        }
        named
    }

    /// The items of a list.
    pub(super) fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.content {
            Content::List(items) => items,
            _ => {
                self.wrong_type(node, what);
                &[]
            }
        }
    }

    /// Text that may not hold expressions. Numbers and booleans are spelled out.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        match self.token(node, &Shape::Text, None) {
            Token::String(text) => Some(text),
            _ => None,
        }
    }

    /// Text that may not hold expressions and may not be empty.
    pub(super) fn word(&mut self, node: &Node) -> Option<String> {
        match self.token(node, &Shape::NonEmpty, None) {
            Token::String(text) => Some(text),
            _ => None,
        }
    }

    /// `true` or `false`, written out.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match self.token(node, &Shape::Bool, None) {
            Token::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A string or a list of strings, none empty.
    pub(super) fn words(&mut self, node: &Node) -> Vec<String> {
        match self.token(node, &super::shape::WORD_OR_WORDS, None) {
            Token::String(word) => vec![word],
            Token::Sequence(items) => items
                .into_iter()
                .filter_map(|item| match item {
                    Token::String(word) => Some(word),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A node that must have a shape; `names` are the contexts that expressions in it may use, none if `None`.
    pub(super) fn token(&mut self, node: &Node, shape: &'static Shape, names: Option<&'static Names>) -> Token {
        if let Shape::With(names, inner) = shape {
            return self.token(node, inner, Some(names));
        }
        match &node.content {
            Content::Text(text) => match self.scalar(node, text, names) {
                None => Token::Null,
                Some(Scalar::Text(text)) => self.literal(node, Token::String(text), shape),
                Some(Scalar::Expression(expression)) => Token::Expression(expression),
                Some(Scalar::Insert) => {
                    self.error(codes::WRONG_TYPE, node.id, "The directive 'insert' is not allowed in this context")
                        .diagnostic
                        .help = Some("`${{ insert }}` stands as a key of a mapping".to_owned());
                    Token::Null
                }
            },
            Content::Null => self.literal(node, Token::Null, shape),
            Content::Bool(value) => self.literal(node, Token::Bool(*value), shape),
            Content::Number(value) => self.literal(node, Token::Number(*value), shape),
            Content::List(items) => match shape.list() {
                Some((item_shape, own)) => {
                    let names = own.or(names);
                    Token::Sequence(items.iter().map(|item| self.token(item, item_shape, names)).collect())
                }
                None => {
                    self.wrong_type(node, &shape.describe());
                    Token::Null
                }
            },
            Content::Map(pairs) => match shape.map() {
                Some((map, own)) => self.mapping(node, pairs, map, own.or(names)),
                None => {
                    self.wrong_type(node, &shape.describe());
                    Token::Null
                }
            },
        }
    }

    fn mapping(
        &mut self,
        node: &Node,
        pairs: &[(Node, Node)],
        shape: &'static MapShape,
        names: Option<&'static Names>,
    ) -> Token {
        let mut seen = HashSet::new();
        let mut tokens = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if let Content::Text(text) = &key.content
                && expression::is_template(text)
            {
                let named = match self.scalar(key, text, names) {
                    Some(Scalar::Insert) => Some(Token::Insert),
                    Some(Scalar::Expression(expression)) => Some(Token::Expression(expression)),
                    Some(Scalar::Text(_)) => None,
                    None => continue,
                };
                if let Some(named) = named {
                    // It may turn out to be any key; where all keys are free, their values are alike.
                    let below = shape.loose.filter(|_| shape.fields.is_empty()).unwrap_or(&Shape::Any);
                    tokens.push((named, self.token(value, below, names)));
                    continue;
                }
            }
            let Some(name) = self.key_text(key) else { continue };
            if !seen.insert(name.to_uppercase()) {
                self.duplicate_key(key, &name);
                continue;
            }
            if let Some(field) = shape.fields.iter().find(|field| field.key == name) {
                tokens.push((Token::String(name), self.token(value, field.shape, names)));
            } else if let Some(loose) = shape.loose {
                if name.is_empty() {
                    self.error(codes::WRONG_TYPE, key.id, "Unexpected value ''");
                    continue;
                }
                tokens.push((Token::String(name), self.token(value, loose, names)));
            } else {
                let keys = shape.fields.iter().map(|field| field.key);
                self.unknown_name(codes::UNKNOWN_KEY, key, &name, keys);
            }
        }
        for field in shape.fields {
            let written = |(key, _): &(Token, Token)| match key {
                Token::String(key) => key == field.key,
                // An expression or `insert` may give any key.
                _ => true,
            };
            if field.required && !tokens.iter().any(written) {
                self.missing_key(node, field.key);
            }
        }
        Token::Mapping(tokens)
    }

    /// A scalar that is no expression: fits as it is, or as text, or not at all.
    fn literal(&mut self, node: &Node, literal: Token, shape: &'static Shape) -> Token {
        if shape.accepts(&literal) {
            return literal;
        }
        let text = match &literal {
            Token::String(text) => text.clone(),
            other => scalar_text(other),
        };
        let spelled = Token::String(text);
        if shape.accepts(&spelled) {
            return spelled;
        }
        let Token::String(text) = spelled else { return Token::Null };
        self.unexpected(node, &text, shape);
        Token::Null
    }

    fn unexpected(&mut self, node: &Node, text: &str, shape: &'static Shape) {
        let words = shape.words();
        let code = if words.is_empty() { codes::WRONG_TYPE } else { codes::UNKNOWN_VALUE };
        let mut help = match nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`? "),
            None => String::new(),
        };
        help.push_str(&format!("expected {}", shape.describe()));
        self.error(code, node.id, format!("Unexpected value '{}'", shortened(text))).diagnostic.help = Some(help);
    }

    /// Parses a scalar; faults are recorded at it.
    pub(super) fn scalar(&mut self, node: &Node, text: &str, names: Option<&'static Names>) -> Option<Scalar> {
        if !expression::is_template(text) {
            return Some(Scalar::Text(text.to_owned()));
        }
        let Some(names) = names else {
            // A string in quotes needs no context and is taken as it stands.
            if let Ok(Scalar::Text(text)) = expression::scalar(text, &Names::NONE) {
                return Some(Scalar::Text(text));
            }
            self.error(
                codes::EXPRESSION_NOT_ALLOWED,
                node.id,
                "A template expression is not allowed in this context",
            )
            .diagnostic
            .help = Some("write the value out: GitHub reads it before any context exists".to_owned());
            return None;
        };
        match expression::scalar(text, names) {
            Ok(scalar) => {
                if let Scalar::Expression(expression) = &scalar {
                    lint::references(self, node, expression);
                }
                Some(scalar)
            }
            Err(fault) => {
                self.syntax_error(node, text, &fault, false);
                None
            }
        }
    }

    fn syntax_error(&mut self, node: &Node, text: &str, fault: &SyntaxError, condition: bool) {
        let problem = self.error(fault.code(), node.id, fault.message.clone());
        problem.diagnostic.help.clone_from(&fault.help);
        if fault.fault == Fault::UnknownContext && condition && fault.message.contains("'secrets'") {
            problem.diagnostic.notes.push(
                "a secret is never known in a condition: set `env: NAME: ${{ secrets.NAME }}` on the job, and test \
                 `env.NAME` in the step's condition"
                    .to_owned(),
            );
        }
        // The place is that of the whole scalar, as on GitHub; of many lines the one in question is shown.
        if text.trim_end().contains('\n') {
            let at = text.floor_char_boundary(fault.offset);
            let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let line = text[start..].lines().next().unwrap_or("").trim();
            problem.diagnostic.notes.push(format!("in the line `{}`", shortened(line)));
        }
    }

    /// The condition of a job or step (I1): `success()` when nothing is written.
    pub(super) fn condition(&mut self, node: Option<&Node>, names: &'static Names) -> Expression {
        self.written_condition(node, names, expression::condition).unwrap_or_else(expression::success)
    }

    /// The condition of a `pre` or `post` hook (A2): `always()` when nothing is written.
    pub(super) fn hook_condition(&mut self, node: Option<&Node>, names: &'static Names) -> Expression {
        self.written_condition(node, names, expression::hook_condition).unwrap_or_else(expression::always)
    }

    fn written_condition(
        &mut self,
        node: Option<&Node>,
        names: &'static Names,
        parse: impl Fn(&str, &Names) -> Result<Expression, SyntaxError>,
    ) -> Option<Expression> {
        let node = node?;
        let text = match &node.content {
            Content::Text(text) => text.clone(),
            Content::Null => return None,
            Content::Bool(value) => value.to_string(),
            Content::Number(value) => expression::number_text(*value),
            Content::List(_) | Content::Map(_) => {
                self.wrong_type(node, "a condition");
                return None;
            }
        };
        match parse(&text, names) {
            Ok(condition) => {
                lint::references(self, node, &condition);
                lint::condition(self, node, &text);
                Some(condition)
            }
            Err(fault) => {
                self.syntax_error(node, &text, &fault, true);
                None
            }
        }
    }

    fn key_text(&mut self, key: &Node) -> Option<String> {
        match &key.content {
            Content::Text(text) => Some(text.clone()),
            Content::Null => {
                self.error(codes::UNKNOWN_KEY, key.id, "Unexpected value ''").diagnostic.help =
                    Some("a key is missing here; `null` and `~` must be quoted to be a key".to_owned());
                None
            }
            Content::Bool(value) => Some(value.to_string()),
            Content::Number(value) => Some(scalar_text(&Token::Number(*value))),
            Content::List(_) | Content::Map(_) => {
                self.error(codes::UNKNOWN_KEY, key.id, "a key must be text, not a list or a mapping");
                None
            }
        }
    }

    /// A key as text, where no expressions are allowed. Keys that YAML reads as numbers or booleans are never known.
    fn plain_key<'n>(&mut self, key: &'n Node) -> Option<&'n str> {
        let Some(text) = key.text() else {
            if let Some(text) = self.key_text(key) {
                self.error(codes::UNKNOWN_KEY, key.id, format!("Unexpected value '{}'", shortened(&text)))
                    .diagnostic
                    .help = Some("quote the key: YAML reads it as something else than text".to_owned());
            }
            return None;
        };
        if expression::is_template(text) {
            self.scalar(key, text, None);
            return None;
        }
        Some(text)
    }

    fn first_of_its_name(&mut self, seen: &mut HashSet<String>, key: &Node, name: &str) -> bool {
        let first = seen.insert(name.to_uppercase());
        if !first {
            self.duplicate_key(key, name);
        }
        first
    }

    fn duplicate_key(&mut self, key: &Node, name: &str) {
        self.error(codes::DUPLICATE_KEY, key.id, format!("'{}' is already defined", shortened(name))).diagnostic.help =
            Some("keep one of the two; keys compare without case".to_owned());
    }

    fn missing_key(&mut self, node: &Node, name: &str) {
        self.error(codes::MISSING_KEY, node.id, format!("Required property is missing: {name}")).diagnostic.help =
            Some(format!("add `{name}:` here"));
    }

    fn unknown_key(&mut self, key: &Node, name: &str, variants: &[Variant], left: &[usize]) {
        let known: Vec<&str> = left.iter().flat_map(|&at| variants[at].keys.iter().copied()).collect();
        let elsewhere = variants.iter().find(|variant| variant.keys.contains(&name));
        let problem = self.unknown_name(codes::UNKNOWN_KEY, key, name, known.iter().copied());
        if let (Some(other), [left]) = (elsewhere, left)
            && let (true, [own, ..]) = (other.required.contains(&name), variants[*left].required)
        {
            problem.diagnostic.help =
                Some(format!("`{own}` and `{name}` exclude each other: keep one of them, or make two entries"));
        } else if elsewhere.is_some() {
            problem.diagnostic.help =
                Some(format!("`{name}` cannot stand beside the keys before it; allowed here: {}", list_of(known)));
        }
    }

    /// A name that is none of those known.
    pub(super) fn unknown_name<'k>(
        &mut self,
        code: &'static str,
        node: &Node,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> &mut Problem {
        let known: Vec<&str> = known.into_iter().collect();
        let help = if name == "<<" {
            "GitHub has no merge keys; repeat the keys, or alias a whole mapping".to_owned()
        } else if known.is_empty() {
            "nothing may stand here".to_owned()
        } else if let Some(near) = nearest(name, known.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            format!("expected one of {}", list_of(known))
        };
        let problem = self.error(code, node.id, format!("Unexpected value '{}'", shortened(name)));
        problem.diagnostic.help = Some(help);
        problem
    }

    pub(super) fn wrong_type(&mut self, node: &Node, expected: &str) {
        let message = match &node.content {
            Content::Map(_) => "A mapping was not expected".to_owned(),
            Content::List(_) => "A sequence was not expected".to_owned(),
            Content::Text(text) if expression::is_template(text) => {
                self.error(
                    codes::EXPRESSION_NOT_ALLOWED,
                    node.id,
                    "A template expression is not allowed in this context",
                )
                .diagnostic
                .help = Some(format!("expected {expected}, written out"));
                return;
            }
            Content::Text(text) => format!("Unexpected value '{}'", shortened(text)),
            Content::Null => "Unexpected value ''".to_owned(),
            Content::Bool(value) => format!("Unexpected value '{value}'"),
            Content::Number(value) => format!("Unexpected value '{}'", scalar_text(&Token::Number(*value))),
        };
        self.error(codes::WRONG_TYPE, node.id, message).diagnostic.help = Some(format!("expected {expected}"));
    }
}

/// A literal as GitHub spells it in text (E5).
pub(super) fn scalar_text(token: &Token) -> String {
    match token {
        Token::Bool(value) => value.to_string(),
        Token::Number(value) => expression::number_text(*value),
        Token::String(text) => text.clone(),
        _ => String::new(),
    }
}

fn list_of<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        let name = format!("`{name}`");
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique.join(", ")
}

/// Names and values in messages are cut: a value may be a whole script.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let line = text.lines().next().unwrap_or("");
    if line.len() == text.len() && text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let mut cut: String = line.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}
