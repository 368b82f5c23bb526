//! The words of `--net`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The value of `--net`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NetOption {
    /// The guest has no network card.
    #[default]
    None,
    /// A card on a network of the user's, with ports of the host that lead to the guest's.
    Card(Back, Vec<Forward>),
}

/// What is behind the guest's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Back {
    /// QEMU's user network.
    User,
    /// `passt`: the host's own sockets, without address translation in QEMU.
    Passt,
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Passt => "passt",
        })
    }
}

/// A TCP port of the host that leads to one of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) address: Ipv4Addr,
    pub(crate) host: u16,
    pub(crate) guest: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp:{}:{}:{}", self.address, self.host, self.guest)
    }
}

impl FromStr for NetOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        match words.next() {
            Some("none") => match words.next() {
                None => Ok(Self::None),
                Some(word) => Err(format!("'{word}': there is no network to which this could apply")),
            },
            Some(word @ ("user" | "passt")) => {
                let back = if word == "user" { Back::User } else { Back::Passt };
                let mut forwards: Vec<Forward> = Vec::new();
                for word in words {
                    let forward = forward(word)?;
                    if forwards
                        .iter()
                        .any(|other| (other.address, other.host) == (forward.address, forward.host))
                    {
                        return Err(format!(
                            "port {} of {} is forwarded twice: give each forward a port of its own",
                            forward.host, forward.address
                        ));
                    }
                    forwards.push(forward);
                }
                Ok(Self::Card(back, forwards))
            }
            _ => Err("expected none, or user|passt[,forward=tcp:[ADDR:]HOST:GUEST]...".to_owned()),
        }
    }
}

fn forward(word: &str) -> Result<Forward, String> {
    let wrong = |why: &str| format!("'{word}': {why}; expected forward=tcp:[ADDR:]HOST:GUEST");
    let text = word.strip_prefix("forward=").ok_or_else(|| wrong("it is not a known word"))?;
    let text = text.strip_prefix("tcp:").ok_or_else(|| wrong("only tcp can be forwarded"))?;
    let (rest, guest) = text.rsplit_once(':').ok_or_else(|| wrong("there are not two ports"))?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (address.parse().map_err(|_| wrong("ADDR is not an IPv4 address"))?, host),
        None => (Ipv4Addr::LOCALHOST, rest),
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    match (port(host), port(guest)) {
        (Some(host), Some(guest)) => Ok(Forward { address, host, guest }),
        _ => Err(wrong("a port is a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_none_or_the_users_with_its_forwards() {
        let parse = str::parse::<NetOption>;
        let forward = |address: [u8; 4], host, guest| Forward { address: address.into(), host, guest };
        assert_eq!(parse("none"), Ok(NetOption::None));
        assert_eq!(parse("user"), Ok(NetOption::Card(Back::User, vec![])));
        assert_eq!(
            parse("passt,forward=tcp:8080:80"),
            Ok(NetOption::Card(Back::Passt, vec![forward([127, 0, 0, 1], 8080, 80)]))
        );
        assert_eq!(
            parse("user,forward=tcp:2222:22,forward=tcp:0.0.0.0:8080:80"),
            Ok(NetOption::Card(
                Back::User,
                vec![forward([127, 0, 0, 1], 2222, 22), forward([0; 4], 8080, 80)]
            ))
        );
        assert_eq!(forward([127, 0, 0, 1], 2222, 22).to_string(), "tcp:127.0.0.1:2222:22");
    }

    #[test]
    fn each_wrong_form_has_its_reason() {
        let wrong = [
            ("", "expected none, or user"),
            ("bridge", "expected none, or user"),
            ("none,forward=tcp:1:1", "no network"),
            ("user,", "not a known word"),
            ("passt,forward=tcp:1", "not two ports"),
            ("user,restrict", "not a known word"),
            ("user,forward=udp:53:53", "only tcp"),
            ("user,forward=2222:22", "only tcp"),
            ("user,forward=tcp:2222", "not two ports"),
            ("user,forward=tcp:0:22", "from 1 to 65535"),
            ("user,forward=tcp:22:65536", "from 1 to 65535"),
            ("user,forward=tcp:22:", "from 1 to 65535"),
            ("user,forward=tcp:localhost:1:1", "not an IPv4 address"),
            ("user,forward=tcp:[::1]:1:1", "not an IPv4 address"),
            ("user,forward=tcp:1:1,forward=tcp:127.0.0.1:1:2", "forwarded twice"),
        ];
        for (text, why) in wrong {
            let error = text.parse::<NetOption>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
