//! What may stand where: shapes of values, with the contexts that their expressions may use (X1–X7).
//!
//! Pure: no I/O, no clock, no async.

use super::names;
use super::token::Token;
use crate::expr::Names;

/// What a node may be.
pub(super) enum Shape {
    /// A scalar; numbers and booleans are spelled out.
    Text,
    /// The same, but not empty.
    NonEmpty,
    Bool,
    Number,
    /// Anything at all.
    Any,
    /// One of a few words.
    Words(&'static [&'static str]),
    List(&'static Shape),
    Map(&'static MapShape),
    OneOf(&'static [Shape]),
    /// Expressions are allowed from here down, with these names.
    With(&'static Names, &'static Shape),
}

/// A mapping: known keys, and what free keys may hold.
pub(super) struct MapShape {
    pub(super) fields: &'static [Field],
    pub(super) loose: Option<&'static Shape>,
}

pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) shape: &'static Shape,
    pub(super) required: bool,
}

impl Shape {
    /// Whether a literal scalar fits as it is.
    pub(super) fn accepts(&self, literal: &Token) -> bool {
        match (self, literal) {
            (Self::Any, _)
            | (Self::Text, Token::String(_))
            | (Self::Bool, Token::Bool(_))
            | (Self::Number, Token::Number(_)) => true,
            (Self::NonEmpty, Token::String(text)) => !text.is_empty(),
            (Self::Words(words), Token::String(text)) => words.contains(&text.as_str()),
            (Self::OneOf(shapes), _) => shapes.iter().any(|shape| shape.accepts(literal)),
            (Self::With(_, inner), _) => inner.accepts(literal),
            _ => false,
        }
    }

    /// The shape of items, if it may be a list, and the names that hold inside.
    pub(super) fn list(&self) -> Option<(&'static Shape, Option<&'static Names>)> {
        match self {
            Self::List(item) => Some((item, None)),
            Self::Any => Some((&Self::Any, None)),
            Self::OneOf(shapes) => shapes.iter().find_map(Shape::list),
            Self::With(names, inner) => inner.list().map(|(item, own)| (item, own.or(Some(names)))),
            _ => None,
        }
    }

    /// The mapping it may be, and the names that hold inside.
    pub(super) fn map(&self) -> Option<(&'static MapShape, Option<&'static Names>)> {
        match self {
            Self::Map(map) => Some((map, None)),
            Self::Any => Some((&ANY_MAP, None)),
            Self::OneOf(shapes) => shapes.iter().find_map(Shape::map),
            Self::With(names, inner) => inner.map().map(|(map, own)| (map, own.or(Some(names)))),
            _ => None,
        }
    }

    /// The words it may be, for "did you mean".
    pub(super) fn words(&self) -> Vec<&'static str> {
        match self {
            Self::Words(words) => words.to_vec(),
            Self::OneOf(shapes) => shapes.iter().flat_map(Shape::words).collect(),
            Self::With(_, inner) => inner.words(),
            _ => Vec::new(),
        }
    }

    /// In words, for "expected …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::NonEmpty => "text that is not empty".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Any => "a value".to_owned(),
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                match words.as_slice() {
                    [one] => one.clone(),
                    _ => format!("one of {}", words.join(", ")),
                }
            }
            Self::List(_) => "a list".to_owned(),
            Self::Map(map) if map.loose.is_some() => "a mapping".to_owned(),
            Self::Map(map) => {
                let keys: Vec<String> = map.fields.iter().map(|field| format!("`{}`", field.key)).collect();
                format!("a mapping with {}", keys.join(", "))
            }
            Self::OneOf(shapes) => {
                let mut parts: Vec<String> = shapes.iter().map(Shape::describe).collect();
                parts.dedup();
                parts.join(", or ")
            }
            Self::With(_, inner) => inner.describe(),
        }
    }
}

const fn field(key: &'static str, shape: &'static Shape) -> Field {
    Field { key, shape, required: false }
}

const fn required(key: &'static str, shape: &'static Shape) -> Field {
    Field { key, shape, required: true }
}

static ANY_MAP: MapShape = MapShape { fields: &[], loose: Some(&Shape::Any) };
static WORD_LIST: Shape = Shape::List(&Shape::NonEmpty);

pub(super) static WORD_OR_WORDS: Shape = Shape::OneOf(&[Shape::NonEmpty, Shape::List(&Shape::NonEmpty)]);

/// A mapping of names to text: `env`, `with` of a step.
pub(super) static TEXTS: Shape = Shape::Map(&MapShape { fields: &[], loose: Some(&Shape::Text) });

/// `outputs` of a job: only its values may hold expressions.
pub(super) static JOB_OUTPUTS: Shape =
    Shape::Map(&MapShape { fields: &[], loose: Some(&Shape::With(&names::JOB_RUNNING, &Shape::Text)) });

/// `with` of a call: scalars keep their type, and only they may hold expressions.
pub(super) static CALL_WITH: Shape =
    Shape::Map(&MapShape { fields: &[], loose: Some(&Shape::With(&names::JOB, &SCALAR)) });
/// `secrets` of a call.
pub(super) static CALL_SECRETS: Shape =
    Shape::Map(&MapShape { fields: &[], loose: Some(&Shape::With(&names::JOB_ENV, &SCALAR)) });
pub(super) static SCALAR: Shape = Shape::OneOf(&[Shape::Text, Shape::Bool, Shape::Number]);

pub(super) static CONCURRENCY: Shape = Shape::OneOf(&[Shape::Text, Shape::Map(&CONCURRENCY_MAP)]);
pub(super) static JOB_CONCURRENCY: Shape = Shape::OneOf(&[Shape::NonEmpty, Shape::Map(&CONCURRENCY_MAP)]);
static CONCURRENCY_MAP: MapShape = MapShape {
    fields: &[
        required("group", &Shape::NonEmpty),
        field("cancel-in-progress", &Shape::Bool),
        field("queue", &Shape::Words(&["single", "max"])),
    ],
    loose: None,
};

pub(super) static ENVIRONMENT: Shape = Shape::OneOf(&[Shape::Text, Shape::Map(&ENVIRONMENT_MAP)]);
static ENVIRONMENT_MAP: MapShape = MapShape {
    fields: &[
        required("name", &Shape::Text),
        field("url", &Shape::With(&names::ENVIRONMENT_URL, &Shape::Text)),
        field("deployment", &Shape::Bool),
    ],
    loose: None,
};

pub(super) static STRATEGY: Shape = Shape::Map(&MapShape {
    fields: &[field("fail-fast", &Shape::Bool), field("max-parallel", &Shape::Number), field("matrix", &MATRIX)],
    loose: None,
});
static MATRIX: Shape = Shape::Map(&MapShape {
    fields: &[field("include", &MATRIX_ENTRIES), field("exclude", &MATRIX_ENTRIES)],
    loose: Some(&Shape::List(&Shape::Any)),
});
static MATRIX_ENTRIES: Shape = Shape::List(&Shape::Map(&ANY_MAP));

pub(super) static RUNS_ON: Shape = Shape::OneOf(&[
    Shape::NonEmpty,
    Shape::List(&Shape::NonEmpty),
    Shape::Map(&MapShape { fields: &[field("group", &Shape::NonEmpty), field("labels", &WORD_OR_WORDS)], loose: None }),
]);

pub(super) static SNAPSHOT: Shape = Shape::OneOf(&[
    Shape::NonEmpty,
    Shape::Map(&MapShape {
        fields: &[
            required("image-name", &Shape::NonEmpty),
            field("if", &Shape::With(&names::JOB, &Shape::Text)),
            field("version", &Shape::NonEmpty),
        ],
        loose: None,
    }),
]);

pub(super) static CONTAINER: Shape = Shape::OneOf(&[
    Shape::Text,
    Shape::Map(&MapShape {
        fields: &[
            field("image", &Shape::NonEmpty),
            field("options", &Shape::Text),
            field("env", &CONTAINER_ENV),
            field("ports", &WORD_LIST),
            field("volumes", &WORD_LIST),
            field("credentials", &CREDENTIALS),
        ],
        loose: None,
    }),
]);

pub(super) static SERVICES: Shape = Shape::Map(&MapShape { fields: &[], loose: Some(&SERVICE) });
static SERVICE: Shape = Shape::OneOf(&[
    Shape::NonEmpty,
    Shape::Map(&MapShape {
        fields: &[
            field("image", &Shape::NonEmpty),
            field("options", &Shape::Text),
            field("env", &CONTAINER_ENV),
            field("ports", &WORD_LIST),
            field("volumes", &WORD_LIST),
            field("credentials", &CREDENTIALS),
            field("entrypoint", &Shape::Text),
            field("command", &Shape::Text),
        ],
        loose: None,
    }),
]);
static CONTAINER_ENV: Shape =
    Shape::Map(&MapShape { fields: &[], loose: Some(&Shape::With(&names::JOB_RUNNING, &Shape::Text)) });
static CREDENTIALS: Shape = Shape::With(
    &names::CREDENTIALS,
    &Shape::Map(&MapShape {
        fields: &[field("username", &Shape::NonEmpty), field("password", &Shape::NonEmpty)],
        loose: None,
    }),
);

/// `args` of a docker action.
pub(super) static ARGS: Shape = Shape::List(&Shape::With(&names::ACTION_CONTAINER, &Shape::Text));
