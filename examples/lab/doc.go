// Package lab runs the real servers that Purser works with as ordinary processes on one Linux machine: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler, KWOK, a Git server, Gitea, Alertmanager, PostgreSQL and an S3
// server with Object Lock. No container runtime and no root is needed.
//
// # Nouns
//
// A lab is one data directory and the processes started in it. A server is one such process; each has a file of
// its own here (etcd.go, apiserver.go, …) and adds itself to the table in server.go. [Endpoints] say where the
// servers of a lab are reached and are kept in lab.json, so that another process can [Join] a running lab.
//
// Package odoodb fills a database of the lab with what Odoo has, and sells in it.
//
// # The data directory
//
//	lab.json       Endpoints
//	lock           held with flock by the process that runs the lab
//	pids/          one file per running server, to find what a crashed lab left behind
//	logs/          one file per server
//	pki/           certificate authority, serving certificate, service-account key
//	kubeconfigs/   one file per identity; admin.yaml is cluster-admin
//	etcd/ git/     data
//	gitea/         data, configuration, token of the administrator
//	alertmanager/  data; its configuration is alertmanager.yml
//	postgres/      data, pgpass
//	filestore/     one folder per database
//	s3/            objects, their older versions, users, credentials
//
// # Invariants
//
//   - Servers listen on loopback only, on ports outside the kernel's ephemeral range: a client that keeps dialling
//     a server that is down can then never be given that server's port as its own.
//   - No server outlives the process that started it, however that process ends.
//   - One data directory has one running lab; different directories never disturb each other.
//
// Binaries come from KUBEBUILDER_ASSETS, else from $XDG_CACHE_HOME/purser-lab, else they are built into that cache
// from the nested module of the server (its go.mod is the only place that names the version). PostgreSQL is a package
// of Debian's.
package lab
