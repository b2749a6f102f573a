//! YAML values that may hold expressions, kept unevaluated until their contexts exist.

use serde::{Deserialize, Serialize};

use crate::expr::{EvaluationError, Expression, Object, Scope, Value};

/// A node of a workflow or action file. A scalar with `${{ }}` embedded in text has become one `format(…)`
/// expression when the file was decoded, as GitHub does it, so a token is either plain or one expression (E16).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Token {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    /// Serialised as its source text; parsing it again cannot fail because it was parsed before.
    Expression(Expression),
    Sequence(Vec<Token>),
    /// Pairs in file order. A key is a `String`, or an `Expression`; `${{ insert }}` is [`Token::Insert`].
    Mapping(Vec<(Token, Token)>),
    /// The key `${{ insert }}`: its value's pairs join the surrounding mapping.
    Insert,
}

impl Token {
    /// Evaluates every expression inside. Mapping keys become strings; `insert` pairs are merged in place.
    ///
    /// # Errors
    /// The first expression that cannot be evaluated, or that needs a hash of files first; a key that occurs twice
    /// once its expression has a value; a key or an inserted value of the wrong kind.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluationError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(*number),
            Self::String(text) => Value::string(text.as_str()),
            Self::Expression(expression) => expression.evaluate(scope)?,
            Self::Sequence(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    match (item, item.evaluate(scope)?) {
                        // An expression that gives a sequence gives its items to the sequence around it.
                        (Self::Expression(_), Value::Array(inner)) => values.extend(inner.iter().cloned()),
                        (_, value) => values.push(value),
                    }
                }
                Value::array(values)
            }
            Self::Mapping(pairs) => {
                let mut object = Object::new();
                for (key, value) in pairs {
                    if matches!(key, Self::Insert) {
                        let Value::Object(inserted) = value.evaluate(scope)? else {
                            return Err(failed("the value of `${{ insert }}` must be a mapping".to_owned()));
                        };
                        for (key, value) in inserted.iter() {
                            add(&mut object, key.to_owned(), value.clone())?;
                        }
                    } else {
                        let key = key.evaluate(scope)?;
                        if !key.is_primitive() {
                            return Err(failed(format!("a key of a mapping must be a string, not {}", key.kind())));
                        }
                        add(&mut object, key.to_display_string(), value.evaluate(scope)?)?;
                    }
                }
                Value::object(object)
            }
            Self::Insert => return Err(failed("`${{ insert }}` can only be a key of a mapping".to_owned())),
        })
    }

    /// The text of a plain scalar, as GitHub spells it (E5); `None` for what has to be evaluated and for collections.
    #[must_use]
    pub fn plain_text(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Bool(_) | Self::Number(_) | Self::String(_) => Some(super::decode::scalar_text(self)),
            _ => None,
        }
    }

    /// The value of a plain key of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Token> {
        match self {
            Self::Mapping(pairs) => pairs.iter().find_map(|(name, value)| match name {
                Self::String(name) if name == key => Some(value),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Whether there is an expression in it.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        match self {
            Self::Expression(_) | Self::Insert => true,
            Self::Sequence(items) => items.iter().any(Token::is_dynamic),
            Self::Mapping(pairs) => pairs.iter().any(|(key, value)| key.is_dynamic() || value.is_dynamic()),
            _ => false,
        }
    }
}

fn add(object: &mut Object, key: String, value: Value) -> Result<(), EvaluationError> {
    if object.contains_key(&key) {
        return Err(failed(format!("'{key}' is already defined")));
    }
    object.insert(key, value);
    Ok(())
}

fn failed(message: String) -> EvaluationError {
    EvaluationError::Failed(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Names, NoFunctions};

    fn text(text: &str) -> Token {
        Token::String(text.to_owned())
    }

    fn expression(source: &str) -> Token {
        Token::Expression(Expression::parse(source, &Names::ANY).unwrap())
    }

    fn evaluate(token: &Token) -> Result<String, EvaluationError> {
        let contexts = serde_json::from_str(r#"{"a": {"k": "v", "n": 3}, "name": "key"}"#).unwrap();
        let scope = Scope { contexts: &contexts, functions: &NoFunctions };
        token.evaluate(&scope).map(|value| value.to_json().to_string())
    }

    #[test]
    fn mappings_insert_and_name_their_keys() {
        let token = Token::Mapping(vec![
            (text("first"), Token::Sequence(vec![Token::Number(1.0), expression("a.n"), Token::Null])),
            (Token::Insert, expression("a")),
            (expression("name"), Token::Bool(true)),
        ]);
        assert_eq!(evaluate(&token).unwrap(), r#"{"first":[1,3,null],"k":"v","n":3,"key":true}"#);
    }

    #[test]
    fn sequences_of_expressions_join_the_sequence_around_them() {
        let token = Token::Sequence(vec![expression("fromJSON('[1, [2]]')"), Token::Sequence(vec![expression("a.n")])]);
        assert_eq!(evaluate(&token).unwrap(), "[1,[2],[3]]");
    }

    #[test]
    fn keys_are_unique_strings() {
        for pairs in [
            vec![(text("key"), Token::Null), (expression("name"), Token::Null)],
            vec![(text("K"), Token::Null), (Token::Insert, expression("a"))],
            vec![(expression("a"), Token::Null)],
            vec![(Token::Insert, expression("name"))],
        ] {
            assert!(evaluate(&Token::Mapping(pairs)).is_err());
        }
    }
}
