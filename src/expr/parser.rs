//! Tokens to a tree: recursive descent, with depth counted as GitHub counts it.

use super::ast::{Comparison, Function, Node};
use super::lexer::{Token, TokenKind, lex, located};
use super::names::Names;
use super::{Fault, MAX_DEPTH, SyntaxError, SyntaxErrorKind, Value};

pub(super) fn parse(source: &str, names: &Names) -> Result<Node, SyntaxError> {
    let tokens = lex(source)?;
    if tokens.is_empty() {
        return Ok(Node::Literal(Value::Null));
    }
    let mut parser = Parser { source, tokens: &tokens, names, at: 0, depth: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        None => Ok(node),
        Some(token) => Err(parser.unexpected(token)),
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: &'a [Token<'a>],
    names: &'a Names,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expression(&mut self) -> Result<Node, SyntaxError> {
        self.deeper()?;
        let node = self.or()?;
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Result<Node, SyntaxError> {
        let first = self.and()?;
        if !self.next_is(&TokenKind::Or) {
            return Ok(first);
        }
        self.deeper()?;
        let mut nodes = vec![first];
        while self.take(&TokenKind::Or) {
            nodes.push(self.and()?);
        }
        self.depth -= 1;
        // What parentheses keep together is one chain all the same, as in GitHub's parser.
        let flat = nodes.into_iter().flat_map(|node| if let Node::Or(inner) = node { inner } else { vec![node] });
        Ok(Node::Or(flat.collect()))
    }

    fn and(&mut self) -> Result<Node, SyntaxError> {
        let first = self.equality()?;
        if !self.next_is(&TokenKind::And) {
            return Ok(first);
        }
        self.deeper()?;
        let mut nodes = vec![first];
        while self.take(&TokenKind::And) {
            nodes.push(self.equality()?);
        }
        self.depth -= 1;
        let flat = nodes.into_iter().flat_map(|node| if let Node::And(inner) = node { inner } else { vec![node] });
        Ok(Node::And(flat.collect()))
    }

    fn equality(&mut self) -> Result<Node, SyntaxError> {
        let first = self.order()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek().map(|token| &token.kind) {
                Some(TokenKind::Equal) => Comparison::Equal,
                Some(TokenKind::NotEqual) => Comparison::NotEqual,
                _ => return Ok(chain(first, rest)),
            };
            self.at += 1;
            rest.push((comparison, self.order()?));
        }
    }

    fn order(&mut self) -> Result<Node, SyntaxError> {
        let first = self.unary()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.peek().map(|token| &token.kind) {
                Some(TokenKind::Less) => Comparison::Less,
                Some(TokenKind::LessOrEqual) => Comparison::LessOrEqual,
                Some(TokenKind::Greater) => Comparison::Greater,
                Some(TokenKind::GreaterOrEqual) => Comparison::GreaterOrEqual,
                _ => return Ok(chain(first, rest)),
            };
            self.at += 1;
            rest.push((comparison, self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Node, SyntaxError> {
        if !self.take(&TokenKind::Not) {
            return self.postfix();
        }
        self.deeper()?;
        let node = self.unary()?;
        self.depth -= 1;
        Ok(Node::Not(Box::new(node)))
    }

    /// A value with the properties, keys and filters behind it. Literals have none.
    fn postfix(&mut self) -> Result<Node, SyntaxError> {
        let depth = self.depth;
        let grouped = self.next_is(&TokenKind::LeftParenthesis);
        let mut node = self.primary()?;
        if !grouped && matches!(node, Node::Literal(_)) {
            return Ok(node);
        }
        loop {
            if self.take(&TokenKind::LeftBracket) {
                let key = if self.take(&TokenKind::Star) { None } else { Some(self.expression()?) };
                self.expect(&TokenKind::RightBracket)?;
                self.deeper()?;
                let target = Box::new(node);
                node = match key {
                    None => Node::Filter { target },
                    Some(key) => Node::Index { target, key: Box::new(key) },
                };
            } else if self.take(&TokenKind::Dot) {
                self.deeper()?;
                let target = Box::new(node);
                node = match self.next() {
                    Some(Token { kind: TokenKind::Identifier, text, .. }) => {
                        Node::Index { target, key: Box::new(Node::Literal(Value::string(*text))) }
                    }
                    Some(Token { kind: TokenKind::Star, .. }) => Node::Filter { target },
                    Some(token) => return Err(self.unexpected(token)),
                    None => return Err(self.unexpected_end()),
                };
            } else {
                self.depth = depth;
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, SyntaxError> {
        let Some(token) = self.next() else { return Err(self.unexpected_end()) };
        Ok(Node::Literal(match &token.kind {
            TokenKind::Null => Value::Null,
            TokenKind::True => Value::Bool(true),
            TokenKind::False => Value::Bool(false),
            TokenKind::Number(number) => Value::Number(*number),
            TokenKind::String(text) => Value::string(text.as_str()),
            TokenKind::LeftParenthesis => {
                let node = self.expression()?;
                self.expect(&TokenKind::RightParenthesis)?;
                return Ok(node);
            }
            TokenKind::Identifier if self.take(&TokenKind::LeftParenthesis) => return self.call(token),
            TokenKind::Identifier => return self.context(token),
            _ => return Err(self.unexpected(token)),
        }))
    }

    fn context(&self, token: &Token<'_>) -> Result<Node, SyntaxError> {
        if self.names.has_context(token.text) {
            return Ok(Node::Context { name: token.text.to_owned(), offset: token.offset });
        }
        let mut error = self.error(Fault::UnknownContext, "Unrecognized named-value", token);
        error.help = self.names.help_with_context(token.text);
        Err(error)
    }

    /// The name and the opening parenthesis are read already.
    fn call(&mut self, name: &Token<'_>) -> Result<Node, SyntaxError> {
        let mut arguments = Vec::new();
        while !self.take(&TokenKind::RightParenthesis) {
            arguments.push(self.expression()?);
            // GitHub's language services take a comma before the closing parenthesis, so it is taken here too.
            if !self.next_is(&TokenKind::RightParenthesis) {
                self.expect(&TokenKind::Comma)?;
            }
        }
        let Some((function, least, most)) = self.names.function(name.text) else {
            let mut error = self.error(Fault::UnknownFunction, "Unrecognized function", name);
            error.help = self.names.help_with_function(name.text);
            return Err(error);
        };
        if arguments.len() < least {
            return Err(self.error(Fault::Syntax, "Too few parameters supplied", name));
        }
        if arguments.len() > most {
            return Err(self.error(Fault::Syntax, "Too many parameters supplied", name));
        }
        if function == Function::Case && arguments.len().is_multiple_of(2) {
            let what = "Even number of parameters supplied, requires an odd number of parameters";
            return Err(self.error(Fault::Syntax, what, name));
        }
        Ok(Node::Call { function, arguments })
    }

    fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token<'a>> {
        let token = self.tokens.get(self.at);
        self.at += usize::from(token.is_some());
        token
    }

    fn next_is(&self, kind: &TokenKind) -> bool {
        self.peek().is_some_and(|token| token.kind == *kind)
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.next_is(kind);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, kind: &TokenKind) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(token) if token.kind == *kind => {
                self.at += 1;
                Ok(())
            }
            Some(token) => Err(self.unexpected(token)),
            None => Err(self.unexpected_end()),
        }
    }

    fn deeper(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth <= MAX_DEPTH {
            return Ok(());
        }
        let offset = self.peek().map_or(self.source.len(), |token| token.offset);
        Err(SyntaxError {
            kind: SyntaxErrorKind::Parsing,
            fault: Fault::Limit,
            message: format!("Exceeded max expression depth {MAX_DEPTH}"),
            offset,
            length: self.peek().map_or(0, |token| token.text.len()),
            help: None,
        })
    }

    fn unexpected(&self, token: &Token<'_>) -> SyntaxError {
        self.error(Fault::Syntax, "Unexpected symbol", token)
    }

    fn unexpected_end(&self) -> SyntaxError {
        let last = self.tokens.last().expect("a text without tokens is not parsed");
        let mut error = self.error(Fault::Syntax, "Unexpected end of expression", last);
        (error.offset, error.length) = (self.source.len(), 0);
        error
    }

    fn error(&self, fault: Fault, what: &str, token: &Token<'_>) -> SyntaxError {
        SyntaxError {
            kind: SyntaxErrorKind::Parsing,
            fault,
            message: located(what, token.text, self.source, token.offset),
            offset: token.offset,
            length: token.text.len(),
            help: None,
        }
    }
}

fn chain(first: Node, rest: Vec<(Comparison, Node)>) -> Node {
    if rest.is_empty() { first } else { Node::Compare { first: Box::new(first), rest } }
}
