//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::Network;

/// The other end of a connection; every request carries it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub origin: Origin,
    /// The connection to us is encrypted.
    pub tls: bool,
    /// The common name of the certificate that the client showed, verified.
    pub certificate: Option<String>,
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Network(SocketAddr),
    /// Over the unix socket: the kernel says who it is.
    Local {
        uid: u32,
        pid: Option<i32>,
    },
}

impl Peer {
    /// Whether the client is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.origin {
            Origin::Network(address) => address.ip().to_canonical().is_loopback(),
            Origin::Local { .. } => true,
        }
    }

    /// Who the request is from when a proxy of `trusted` stands in front: the last address in `X-Forwarded-For` that is
    /// not itself trusted, and what `X-Forwarded-Proto` says. The headers of anyone else are ignored.
    #[must_use]
    pub fn behind(&self, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
        let Origin::Network(address) = &self.origin else { return self.clone() };
        if !is_trusted(address.ip()) {
            return self.clone();
        }
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            forwarded.flat_map(|value| value.split(',')).map_while(|hop| hop.trim().parse().ok()).collect();
        let client = hops.iter().rev().copied().find(|ip| !is_trusted(*ip)).or(hops.first().copied());
        Self {
            origin: Origin::Network(client.map_or(*address, |ip| SocketAddr::new(ip, 0))),
            tls: headers.get("x-forwarded-proto").map_or(self.tls, |proto| proto == "https"),
            // That was the proxy's own.
            certificate: None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.origin {
            Origin::Network(address) => write!(f, "{}", address.ip()),
            Origin::Local { uid, .. } => write!(f, "uid:{uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { origin: Origin::Network(address.parse().unwrap()), tls: false, certificate: None }
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.9".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(peer("5.5.5.5:1").behind(&headers, &trusted), peer("5.5.5.5:1"));
        let seen = peer("10.0.0.1:1").behind(&headers, &trusted);
        assert_eq!(seen.to_string(), "1.2.3.4");
        assert!(seen.tls);
    }
}
