//! Text to tokens. The whole text is read before anything is parsed, so a bad token is reported before bad grammar.

use super::{Fault, MAX_LENGTH, SyntaxError, SyntaxErrorKind, number};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    LeftParenthesis,
    RightParenthesis,
    LeftBracket,
    RightBracket,
    Comma,
    Dot,
    Star,
    Not,
    NotEqual,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Null,
    True,
    False,
    Number(f64),
    String(String),
    Identifier,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    /// As written.
    pub(super) text: &'a str,
    /// In bytes.
    pub(super) offset: usize,
}

pub(super) fn lex(source: &str) -> Result<Vec<Token<'_>>, SyntaxError> {
    if source.encode_utf16().take(MAX_LENGTH + 1).count() > MAX_LENGTH {
        return Err(SyntaxError {
            kind: SyntaxErrorKind::Lexing,
            fault: Fault::Limit,
            message: format!("Exceeded max expression length {MAX_LENGTH}"),
            offset: 0,
            length: 0,
            help: Some("move the text into a file, or the values into variables".to_owned()),
        });
    }
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut at = 0;
    while let Some(c) = source[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let rest = &source[at..];
        let previous = tokens.last().map(|token| &token.kind);
        let (kind, length) = match c {
            '(' => (TokenKind::LeftParenthesis, 1),
            ')' => (TokenKind::RightParenthesis, 1),
            '[' => (TokenKind::LeftBracket, 1),
            ']' => (TokenKind::RightBracket, 1),
            ',' => (TokenKind::Comma, 1),
            '*' => (TokenKind::Star, 1),
            '.' if follows_a_value(previous) => (TokenKind::Dot, 1),
            '!' if rest.starts_with("!=") => (TokenKind::NotEqual, 2),
            '!' => (TokenKind::Not, 1),
            '>' if rest.starts_with(">=") => (TokenKind::GreaterOrEqual, 2),
            '>' => (TokenKind::Greater, 1),
            '<' if rest.starts_with("<=") => (TokenKind::LessOrEqual, 2),
            '<' => (TokenKind::Less, 1),
            '=' if rest.starts_with("==") => (TokenKind::Equal, 2),
            '&' if rest.starts_with("&&") => (TokenKind::And, 2),
            '|' if rest.starts_with("||") => (TokenKind::Or, 2),
            '\'' => string(source, at)?,
            '.' | '+' | '-' | '0'..='9' => number(source, at)?,
            _ => word(source, at, previous)?,
        };
        tokens.push(Token { kind, text: &rest[..length], offset: at });
        at += length;
    }
    Ok(tokens)
}

/// Whether a dot here takes a property; elsewhere it begins a number.
fn follows_a_value(previous: Option<&TokenKind>) -> bool {
    use TokenKind::{Identifier, RightBracket, RightParenthesis, Star};
    matches!(previous, Some(Identifier | RightBracket | RightParenthesis | Star))
}

fn string(source: &str, at: usize) -> Result<(TokenKind, usize), SyntaxError> {
    let mut value = String::new();
    let mut rest = &source[at + 1..];
    loop {
        let Some(quote) = rest.find('\'') else {
            return Err(unexpected(source, at, source.len() - at));
        };
        value.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        // A doubled quote stands for one.
        let Some(after) = rest.strip_prefix('\'') else { break };
        value.push('\'');
        rest = after;
    }
    Ok((TokenKind::String(value), source.len() - rest.len() - at))
}

fn number(source: &str, at: usize) -> Result<(TokenKind, usize), SyntaxError> {
    let rest = &source[at..];
    let length = 1 + rest[1..].find(|c| c != '.' && is_boundary(c)).unwrap_or(rest.len() - 1);
    let value = number::parse(&rest[..length]);
    if value.is_nan() {
        return Err(unexpected(source, at, length));
    }
    Ok((TokenKind::Number(value), length))
}

fn word(source: &str, at: usize, previous: Option<&TokenKind>) -> Result<(TokenKind, usize), SyntaxError> {
    let rest = &source[at..];
    // The first character belongs to the word even if it is a lone `=`, `&` or `|`: such words are never legal.
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let length = first + rest[first..].find(is_boundary).unwrap_or(rest.len() - first);
    let text = &rest[..length];
    let legal = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !legal {
        return Err(unexpected(source, at, length));
    }
    if previous == Some(&TokenKind::Dot) {
        return Ok((TokenKind::Identifier, length));
    }
    let kind = match text {
        "null" => TokenKind::Null,
        "true" => TokenKind::True,
        "false" => TokenKind::False,
        "NaN" => TokenKind::Number(f64::NAN),
        "Infinity" => TokenKind::Number(f64::INFINITY),
        _ => TokenKind::Identifier,
    };
    Ok((kind, length))
}

fn is_boundary(c: char) -> bool {
    matches!(c, '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|') || c.is_whitespace()
}

fn unexpected(source: &str, at: usize, length: usize) -> SyntaxError {
    let text = &source[at..at + length];
    let help = match text.chars().next() {
        Some('"') => Some("strings stand in single quotes".to_owned()),
        Some('\'') => Some("the string has no closing quote; a quote inside a string is doubled".to_owned()),
        Some('=') => Some("equality is `==`".to_owned()),
        Some('&') => Some("the operator is `&&`".to_owned()),
        Some('|') => Some("the operator is `||`".to_owned()),
        Some('+' | '-' | '/' | '%') => Some("the language has no arithmetic".to_owned()),
        Some('$') => Some("names stand alone here, without `$`".to_owned()),
        _ => None,
    };
    SyntaxError {
        kind: SyntaxErrorKind::Lexing,
        fault: Fault::Syntax,
        message: located("Unexpected symbol", text, source, at),
        offset: at,
        length,
        help,
    }
}

/// GitHub's form of a message about a symbol: positions count UTF-16 units from 1.
pub(super) fn located(what: &str, symbol: &str, source: &str, offset: usize) -> String {
    let position = source[..offset].encode_utf16().count() + 1;
    format!("{what}: '{symbol}'. Located at position {position} within expression: {source}")
}
