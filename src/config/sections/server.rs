//! `[server]`, the tables below it, and `[telemetry]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeValue;

use super::{Table, secret, secret_of, set, web_address};
use crate::config::{ClientCertificates, GitHubLogin, Role, SecretSource, Server, Telemetry, Tls};
use crate::diagnostic::codes;

const ROLES: [(&str, Role); 3] = [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];

pub(super) fn listening(table: Table<'_>, base: &Path, server: &mut Server) {
    if let Some(addresses) = table.strings("listen") {
        server.listen.clear();
        for (text, span) in addresses {
            match text.parse::<SocketAddr>() {
                Ok(address) => server.listen.push(address),
                Err(_) => table.source.error(
                    codes::CONFIG_VALUE,
                    span,
                    format!("`listen` cannot be \"{text}\""),
                    "give ADDRESS:PORT with a numeric address, for example \"127.0.0.1:7443\", \"0.0.0.0:443\" or \"[::]:443\"",
                ),
            }
        }
    }
    set(&mut server.url, web_address(&table, "url").map(Some));
    set(&mut server.open_metrics, table.boolean("open_metrics"));
    set(&mut server.open_reads, table.boolean("open_reads"));
    if let Some(addresses) = table.strings("trusted_proxies") {
        server.trusted_proxies.clear();
        for (text, span) in addresses {
            match text.parse() {
                Ok(network) => server.trusted_proxies.push(network),
                Err(_) => table.source.error(
                    codes::CONFIG_VALUE,
                    span,
                    format!("`trusted_proxies` cannot hold \"{text}\""),
                    "give numeric addresses or networks, for example \"192.168.1.2\" or \"10.0.0.0/8\"",
                ),
            }
        }
    }
    match table.value("tls").map(|value| (value, value.get_ref())) {
        None => {}
        Some((_, DeValue::Boolean(on))) => server.tls = if *on { Tls::Own } else { Tls::Off },
        Some((value, DeValue::Table(entries))) => {
            tls(Table::new(table.source, "[server.tls]", value.span(), entries), base, server);
        }
        Some((value, _)) => {
            table.wrong_type("tls", value, "true, false, or a table with certificate and key, or client_authority");
        }
    }
    if let Some(login) = table.table("github_login", "[server.github_login]") {
        server.github_login = github_login(login, base).or(server.github_login.take());
    }
    table.finish();
}

fn tls(table: Table<'_>, base: &Path, server: &mut Server) {
    let has = |key| table.value(key).is_some();
    let authority = table.string("client_authority").map(|path| base.join(path));
    let roles = table.table("clients", "[server.tls.clients]").map(|table| roles(&table));
    if has("certificate") || has("key") || !has("client_authority") {
        let certificate = table.required("certificate", "\"/etc/towline/tls/cert.pem\"");
        let key = table.required("key", "\"/etc/towline/tls/key.pem\"");
        if let (Some(certificate), Some(key)) = (certificate, key) {
            server.tls = Tls::Files { certificate: base.join(certificate), key: base.join(key) };
        }
    } else {
        server.tls = Tls::Own;
    }
    match (authority, roles) {
        (Some(authority), Some(roles)) => server.clients = Some(ClientCertificates { authority, roles }),
        (Some(_), None) => table.source.error(
            codes::CONFIG_MISSING,
            table.span.clone(),
            "[server.tls] has `client_authority`, but no `clients`: nobody could do anything",
            "add `clients = { ada = \"admin\", \"*\" = \"viewer\" }`: common names of certificates and what they may do",
        ),
        (None, Some(_)) => table.source.error(
            codes::CONFIG_MISSING,
            table.span.clone(),
            "[server.tls] has `clients`, but no `client_authority` that vouches for them",
            "add `client_authority = \"/etc/towline/tls/clients.pem\"`",
        ),
        (None, None) => {}
    }
    table.finish();
}

/// A table of names and roles.
fn roles(table: &Table<'_>) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (name, span, value) in table.pairs() {
        match value.get_ref().as_str() {
            Some(word) => {
                roles.extend(table.pick(name, word, value.span(), &ROLES).map(|role| (name.to_owned(), role)));
            }
            None => table.source.error(
                codes::CONFIG_VALUE,
                span,
                format!("`{name}` of {} names no role", table.title),
                "give one of \"viewer\", \"operator\" and \"admin\"",
            ),
        }
    }
    roles
}

fn github_login(table: Table<'_>, base: &Path) -> Option<GitHubLogin> {
    let url = web_address(&table, "url").unwrap_or_else(|| "https://github.com".to_owned());
    let client_id = table.required("client_id", "\"Ov23li…\"");
    if table.value("client_secret").is_none() {
        table.required("client_secret", "{ file = \"github-login\" }");
    }
    let client_secret = secret(&table, "client_secret", base);
    let allow = match table.value("allow").map(|value| (value, value.get_ref())) {
        // A list of names: they may look.
        Some((_, DeValue::Array(_) | DeValue::String(_))) => {
            table.words("allow").into_iter().map(|login| (login, Role::Viewer)).collect()
        }
        Some(_) => table.table("allow", "[server.github_login.allow]").map(|table| roles(&table)).unwrap_or_default(),
        None => BTreeMap::new(),
    };
    if allow.is_empty() {
        table.source.warning(
            codes::CONFIG_MISSING,
            table.span.clone(),
            "nobody may sign in through GitHub: `allow` is empty",
            "add `allow = { octocat = \"operator\" }`",
        );
    }
    let allow = allow.into_iter().map(|(login, role)| (login.to_ascii_lowercase(), role)).collect();
    table.finish();
    Some(GitHubLogin { url, client_id: client_id?, client_secret: client_secret?, allow })
}

pub(super) fn telemetry(table: Table<'_>, base: &Path) -> Option<Telemetry> {
    let otlp = match table.value("otlp") {
        Some(_) => web_address(&table, "otlp"),
        None => table.required("otlp", "\"http://collector.lan:4318\""),
    };
    let mut headers: BTreeMap<String, SecretSource> = BTreeMap::new();
    if let Some(listed) = table.table("headers", "[telemetry.headers]") {
        for (name, span, value) in listed.pairs() {
            if http::HeaderName::try_from(name).is_err() {
                listed.source.error(codes::CONFIG_VALUE, span, format!("\"{name}\" is no name of a header"), "");
                continue;
            }
            headers.extend(
                secret_of(&listed, name, value.span(), value.get_ref(), base).map(|secret| (name.to_owned(), secret)),
            );
        }
    }
    let service = table.string("service").unwrap_or_else(|| "towline".to_owned());
    table.finish();
    Some(Telemetry { otlp: otlp?, headers, service })
}
