//! From where containers answer the outside: the address of each family that is on the network with the default route.
//!
//! What they send from a published port is for the namespace N itself, in which clients' addresses are spoken for
//! (`crate::ports`). Without an uplink ([`super::uplink`]) that is so of whatever they send outside; with one it takes a rule
//! for each port. Rules are the kernel's, but nothing is read back: whoever takes over makes them anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::links;
use super::netlink::Netlink;
use crate::protocol::{Port, Protocol};

/// Where a default route of a container goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bridge: String,
    /// The container's.
    pub(super) address: IpAddr,
}

/// Of a container.
#[derive(Debug, Default)]
struct Lead {
    places: Vec<Place>,
    rules: Vec<links::Answers>,
}

/// Of all containers, by name.
#[derive(Debug)]
pub(super) struct Answers {
    /// Whether the kernel has policy routing. Without, nothing outside is local to N.
    has_rules: bool,
    leads: BTreeMap<String, Lead>,
}

impl Answers {
    pub(super) fn new(has_rules: bool) -> Answers {
        Answers { has_rules, leads: BTreeMap::new() }
    }

    /// Leads what a container answers at these ports to the namespace, from those places where it can be.
    pub(super) fn lead(
        &mut self,
        netlink: &mut Netlink,
        container: &str,
        mut places: Vec<Place>,
        ports: &[Port],
    ) {
        let before = self.leads.remove(container).unwrap_or_default();
        places.retain(|_| self.has_rules && !ports.is_empty());
        let mut rules = Vec::new();
        // Rules that stay are not touched: connections need them all the time.
        places.retain(|place| {
            let wanted = rules_of(place, ports);
            let mut new = wanted.iter().filter(|rule| !before.rules.contains(rule));
            let is_led = new.all(|rule| links::lead_answers(netlink, rule).is_ok());
            rules.extend(wanted);
            is_led
        });
        let is_kept = |rule: &links::Answers| places.iter().any(|place| place.has(rule));
        for rule in before.rules.iter().chain(&rules).filter(|rule| !(rules.contains(rule) && is_kept(rule)))
        {
            // It has gone, or was never made.
            let _ = links::forget_answers(netlink, rule);
        }
        rules.retain(is_kept);
        if !places.is_empty() {
            self.leads.insert(container.to_owned(), Lead { places, rules });
        }
    }

    /// A container's addresses from which it answers so.
    pub(super) fn of(&self, container: &str) -> Vec<IpAddr> {
        let places = self.leads.get(container).into_iter().flat_map(|lead| &lead.places);
        places.map(|place| place.address).collect()
    }

    /// Undoes [`Answers::lead`] for a container.
    pub(super) fn forget(&mut self, netlink: &mut Netlink, container: &str) {
        self.lead(netlink, container, Vec::new(), &[]);
    }

    /// The same for those on a bridge.
    pub(super) fn forget_bridge(&mut self, netlink: &mut Netlink, bridge: &str) {
        for lead in self.leads.values_mut() {
            lead.places.retain(|place| place.bridge != bridge);
            lead.rules.retain(|rule| {
                let is_kept = rule.bridge != bridge;
                if !is_kept {
                    let _ = links::forget_answers(netlink, rule);
                }
                is_kept
            });
        }
    }
}

impl Place {
    fn has(&self, rule: &links::Answers) -> bool {
        self.address == IpAddr::V4(rule.container)
    }
}

/// An uplink is for IPv4 alone.
fn rules_of(place: &Place, ports: &[Port]) -> Vec<links::Answers> {
    let IpAddr::V4(container) = place.address else { return Vec::new() };
    let rule = |(protocol, first, last)| {
        let bridge = place.bridge.clone();
        links::Answers { bridge, container, protocol, first, last }
    };
    runs(ports).into_iter().map(rule).collect()
}

/// Ports that follow each other are one rule, because each packet is compared with all rules.
fn runs(ports: &[Port]) -> Vec<(Protocol, u16, u16)> {
    let mut ends: Vec<(Protocol, u16)> = ports.iter().map(|port| (port.protocol, port.target)).collect();
    ends.sort_unstable();
    let mut runs: Vec<(Protocol, u16, u16)> = Vec::new();
    for (protocol, port) in ends {
        match runs.last_mut() {
            Some((of, _, last)) if *of == protocol && port - *last <= 1 => *last = port,
            _ => runs.push((protocol, port, port)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_follow_each_other_are_one_run() {
        let port = |(protocol, target)| Port {
            target,
            published: None,
            published_last: None,
            host_ip: None,
            protocol,
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let asked = [(tcp, 82), (udp, 82), (tcp, 80), (tcp, 81), (tcp, 81), (udp, 65_535), (tcp, 1)];
        let expected = [(tcp, 1, 1), (tcp, 80, 82), (udp, 82, 82), (udp, 65_535, 65_535)];
        assert_eq!(runs(&asked.map(port)), expected);
    }
}
