//! The three GraphQL queries that `gh` sends, answered with exactly the fields asked for: a reader for queries with
//! aliases, arguments and fragments, and one tree of values to pick from.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::id::RepositoryName;
use crate::server::app::{App, Caller, Fault};
use crate::server::auth::Role;

/// Selections may be inside one another this deep.
const DEPTH: usize = 20;

pub(super) async fn answer(State(app): State<App>, caller: Caller, body: Bytes) -> Result<Json<Value>, Fault> {
    caller.at_least(Role::Viewer)?;
    let request: Value =
        serde_json::from_slice(&body).map_err(|_| Fault::Invalid("Problems parsing JSON".to_owned()))?;
    let text = request["query"].as_str().unwrap_or_default();
    let document = match read(text) {
        Ok(document) => document,
        Err(message) => return Ok(Json(json!({"errors": [{"message": message}]}))),
    };
    let mut data = Map::new();
    let mut errors = Vec::new();
    for selection in &document.root {
        let Selection::Field(field) = selection else { continue };
        let tree = match field.name.as_str() {
            "viewer" => {
                json!({"login": caller.client.name, "id": format!("U_{}", caller.client.name), "name": caller.client.name})
            }
            "repository" => {
                let argument = |name: &str| field.argument(name, &request["variables"]);
                let name = RepositoryName(format!("{}/{}", argument("owner"), argument("name").or(&argument("repo"))));
                let known = app.source.repositories().await?;
                match known.iter().find(|one| one.as_str().eq_ignore_ascii_case(name.as_str())) {
                    Some(name) if caller.client.sees(name) => repository(&app, &caller, name).await,
                    _ => {
                        errors.push(json!({
                            "type": "NOT_FOUND", "path": [field.answer],
                            "message": format!("Could not resolve to a Repository with the name '{name}'."),
                        }));
                        Value::Null
                    }
                }
            }
            other => {
                errors.push(json!({"message": format!("Field '{other}' doesn't exist on type 'Query'")}));
                continue;
            }
        };
        let picked = pick(&document, &tree, &field.selections, &mut errors, 0);
        data.insert(field.answer.clone(), picked);
    }
    let mut body = json!({"data": data});
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    Ok(Json(body))
}

/// What GraphQL clients ask of a repository.
async fn repository(app: &App, caller: &Caller, name: &RepositoryName) -> Value {
    let files = (app.source.outside.files)(name.clone()).await.unwrap_or_default();
    let branch = files.first().map_or("main", |file| file.default_branch.as_str());
    let permission = match caller.client.role {
        Role::Admin => "ADMIN",
        Role::Operator => "WRITE",
        _ => "READ",
    };
    json!({
        "id": format!("R_{}", name.number()),
        "databaseId": name.number(),
        "sshUrl": format!("{}/{name}.git", caller.base.0),
        "name": name.name(),
        "nameWithOwner": name.as_str(),
        "owner": {"login": name.owner(), "id": format!("U_{}", name.owner())},
        "url": format!("{}/{name}", caller.base.0),
        "description": null,
        "isPrivate": true,
        "isFork": false,
        "isArchived": false,
        "hasIssuesEnabled": false,
        "hasWikiEnabled": false,
        "hasDiscussionsEnabled": false,
        "hasProjectsEnabled": false,
        "mergeCommitAllowed": true,
        "rebaseMergeAllowed": true,
        "squashMergeAllowed": true,
        "viewerPermission": permission,
        "defaultBranchRef": {"name": branch},
        "parent": null,
        "pullRequests": {"nodes": [], "totalCount": 0},
        "issues": {"nodes": [], "totalCount": 0},
    })
}

fn pick(document: &Document, tree: &Value, selections: &[Selection], errors: &mut Vec<Value>, depth: usize) -> Value {
    if depth > DEPTH {
        return Value::Null;
    }
    match tree {
        Value::Array(items) => {
            items.iter().map(|item| pick(document, item, selections, errors, depth + 1)).collect::<Vec<_>>().into()
        }
        Value::Object(fields) if !selections.is_empty() => {
            let mut picked = Map::new();
            collect(document, fields, selections, errors, (depth, &[]), &mut picked);
            Value::Object(picked)
        }
        other => other.clone(),
    }
}

fn collect(
    document: &Document,
    fields: &Map<String, Value>,
    selections: &[Selection],
    errors: &mut Vec<Value>,
    (depth, open): (usize, &[&str]),
    picked: &mut Map<String, Value>,
) {
    if depth > DEPTH {
        return;
    }
    for selection in selections {
        match selection {
            Selection::Spread(name) => {
                // A fragment that holds itself adds nothing the second time, and twice itself would never end.
                if let Some(selections) = document.fragments.get(name)
                    && !open.contains(&name.as_str())
                {
                    let within: Vec<&str> = open.iter().copied().chain([name.as_str()]).collect();
                    collect(document, fields, selections, errors, (depth + 1, &within), picked);
                }
            }
            Selection::Inline(selections) => collect(document, fields, selections, errors, (depth + 1, open), picked),
            Selection::Field(field) if field.name == "__typename" => {
                picked.insert(field.answer.clone(), "Object".into());
            }
            Selection::Field(field) => match fields.get(&field.name) {
                Some(value) => {
                    let value = pick(document, value, &field.selections, errors, depth + 1);
                    picked.insert(field.answer.clone(), value);
                }
                None => errors.push(json!({"message": format!("Field '{}' doesn't exist here", field.name)})),
            },
        }
    }
}

#[derive(Debug, Default)]
struct Document {
    root: Vec<Selection>,
    fragments: HashMap<String, Vec<Selection>>,
}

#[derive(Debug)]
enum Selection {
    Field(Field),
    Spread(String),
    Inline(Vec<Selection>),
}

#[derive(Debug)]
struct Field {
    name: String,
    /// The key in the answer: the alias, or the name.
    answer: String,
    arguments: Vec<(String, String)>,
    selections: Vec<Selection>,
}

impl Field {
    /// An argument as text; `$name` comes from the variables.
    fn argument(&self, name: &str, variables: &Value) -> Argument {
        let given = self.arguments.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str());
        Argument(match given {
            Some(value) => match value.strip_prefix('$') {
                Some(variable) => variables[variable].as_str().unwrap_or_default().to_owned(),
                None => value.trim_matches('"').to_owned(),
            },
            None => String::new(),
        })
    }
}

struct Argument(String);

impl Argument {
    fn or(self, other: &Argument) -> String {
        if self.0.is_empty() { other.0.clone() } else { self.0 }
    }
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a query document: operations and fragments. Types of variables and directives are skipped.
fn read(text: &str) -> Result<Document, String> {
    let mut tokens = Tokens { rest: text };
    let mut document = Document::default();
    while let Some(token) = tokens.next() {
        match token {
            "{" => document.root.extend(selections(&mut tokens, 0)?),
            "query" => {
                until_brace(&mut tokens)?;
                document.root.extend(selections(&mut tokens, 0)?);
            }
            "fragment" => {
                let name = tokens.next().ok_or("a fragment has no name")?.to_owned();
                until_brace(&mut tokens)?;
                let of_it = selections(&mut tokens, 0)?;
                document.fragments.insert(name, of_it);
            }
            "mutation" | "subscription" => return Err(format!("a {token} is not served here")),
            other => return Err(format!("Parse error on {other:?}")),
        }
    }
    if document.root.is_empty() {
        Err("A query attribute must be specified and must be a string.".to_owned())
    } else {
        Ok(document)
    }
}

fn until_brace(tokens: &mut Tokens<'_>) -> Result<(), String> {
    // Default values of variables may be objects, inside the parentheses.
    let mut parentheses = 0_usize;
    loop {
        match tokens.next().ok_or("Unexpected end of document")? {
            "(" => parentheses += 1,
            ")" => parentheses = parentheses.saturating_sub(1),
            "{" if parentheses == 0 => return Ok(()),
            _ => {}
        }
    }
}

fn selections(tokens: &mut Tokens<'_>, depth: usize) -> Result<Vec<Selection>, String> {
    if depth > DEPTH {
        return Err("the query is too deep".to_owned());
    }
    let mut found = Vec::new();
    loop {
        match tokens.next().ok_or("Unexpected end of document")? {
            "}" => return Ok(found),
            "..." => match tokens.next().ok_or("Unexpected end of document")? {
                "{" => found.push(Selection::Inline(selections(tokens, depth + 1)?)),
                "on" => {
                    until_brace(tokens)?;
                    found.push(Selection::Inline(selections(tokens, depth + 1)?));
                }
                name => found.push(Selection::Spread(name.to_owned())),
            },
            name => {
                let mut field = Field {
                    name: name.to_owned(),
                    answer: name.to_owned(),
                    arguments: Vec::new(),
                    selections: Vec::new(),
                };
                if tokens.peek() == Some(":") {
                    tokens.next();
                    field.name = tokens.next().ok_or("Unexpected end of document")?.to_owned();
                }
                if tokens.peek() == Some("(") {
                    tokens.next();
                    field.arguments = arguments(tokens)?;
                }
                if tokens.peek() == Some("{") {
                    tokens.next();
                    field.selections = selections(tokens, depth + 1)?;
                }
                found.push(Selection::Field(field));
            }
        }
    }
}

/// Pairs of name and value; values that are lists or objects are skipped.
fn arguments(tokens: &mut Tokens<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut inside = 0_usize;
    loop {
        match tokens.next().ok_or("Unexpected end of document")? {
            ")" => return Ok(found),
            "{" | "[" => inside += 1,
            "}" | "]" => inside = inside.saturating_sub(1),
            name if inside == 0 && tokens.peek() == Some(":") => {
                tokens.next();
                if !matches!(tokens.peek(), Some("{" | "[")) {
                    let value = tokens.next().ok_or("Unexpected end of document")?;
                    found.push((name.to_owned(), value.to_owned()));
                }
            }
            _ => {}
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a str> {
        Tokens { rest: self.rest }.next()
    }

    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '\u{feff}');
            let Some(comment) = self.rest.strip_prefix('#') else { break };
            self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
        let first = self.rest.chars().next()?;
        let length = if self.rest.starts_with("...") {
            3
        } else if first == '"' {
            self.rest[1..].find('"').map_or(self.rest.len(), |at| at + 2)
        } else if first.is_alphanumeric() || first == '_' || first == '$' || first == '-' {
            self.rest[first.len_utf8()..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                .map_or(self.rest.len(), |at| at + first.len_utf8())
        } else {
            first.len_utf8()
        };
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, tree: &Value, expected: &Value) {
        let document = read(query).unwrap();
        let mut errors = Vec::new();
        let picked = pick(&document, tree, &document.root, &mut errors, 0);
        assert_eq!(&picked, expected, "{query}");
    }

    #[test]
    fn exactly_the_fields_asked_for() {
        let tree = json!({"viewer": {"login": "octo", "id": 1}, "repository": {"name": "r", "owner": {"login": "o", "id": 2}, "parent": null, "list": [{"a": 1, "b": 2}]}});
        check("query UserCurrent{viewer{login}}", &tree, &json!({"viewer": {"login": "octo"}}));
        check("{ me: viewer { login } }", &tree, &json!({"me": {"login": "octo"}}));
        check(
            "fragment f on R { name owner { login } }\nquery Q($o: String = {a: \"}\"}, $n: [Int!]!) { repository(owner: $o, x: {y: [1, 2]}) { ...f, parent { ...f } list { a } ... on R { name } } }",
            &tree,
            &json!({"repository": {"name": "r", "owner": {"login": "o"}, "parent": null, "list": [{"a": 1}]}}),
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for query in ["", "mutation { x }", "query {", "{ a { b ", "x", "{ a(", &"{a".repeat(100_000), "\"", "{ ... }"]
        {
            // An answer or an error, never a panic or a hang.
            let _ = read(query);
        }
        assert!(read("mutation { x }").is_err());
        assert!(read(&"{a".repeat(100_000)).is_err());
    }

    #[test]
    fn fragments_that_hold_themselves_end() {
        let document = read("fragment f on R { x ...f } { x ...f }").unwrap();
        let tree = json!({"x": 1});
        let mut errors = Vec::new();
        assert_eq!(pick(&document, &tree, &document.root, &mut errors, 0), json!({"x": 1}));
    }
}
