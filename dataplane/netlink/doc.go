// Package netlink speaks netlink (netlink(7)) with many requests in one system call and an answer to each, which is what
// programming thousands of Services takes. Libraries that go back and forth for every request do the rest.
package netlink
