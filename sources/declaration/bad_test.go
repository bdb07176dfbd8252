package declaration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bad has, for each testdata/<name>.bad.yaml, the one error it must give, with F
// for the file. beyond says that the JSON Schema cannot see what is wrong: it
// judges one document, without its text, the others, and the tree.
var bad = map[string]struct {
	want   string
	beyond bool
}{
	"agent/alertmanager":                     {want: `F:14:25: spec.alertmanager.urls[0] is not valid: it must be an http or https address, without user name, password or query: write it like "https://git.example"`},
	"agent/cluster-context":                  {want: `F:10:16: cluster "lab" has a context: contexts belong to a kubeconfig: remove it`, beyond: true},
	"agent/cluster-no-way":                   {want: `F:9:7: cluster "lab" has no way in: it needs kubeconfig or inCluster: add "kubeconfig:" with a file, or "inCluster: true"`, beyond: true},
	"agent/cluster-twice":                    {want: `F:11:13: cluster "lab" is there twice: declarations refer to it by its name: rename one of the two`, beyond: true},
	"agent/cluster-two-ways":                 {want: `F:11:18: cluster "lab" has two ways in: inCluster uses the pod's service account, kubeconfig a file: keep one of the two`, beyond: true},
	"agent/concurrency":                      {want: `F:15:13: spec.concurrency.render is not valid: it must be at least 1: choose another value`},
	"agent/data-dir-missing":                 {want: `F:3:1: missing field "dataDir": AgentConfig.spec needs it: add "dataDir:"`},
	"agent/deploys":                          {want: `F:14:3: unknown field "environments": AgentConfig.spec has no such field: its fields are writer, dataDir, listen, governance, sources, clusters, audit, concurrency, decryption, alertmanager, limits`},
	"agent/forge-project":                    {want: `F:8:65: spec.sources[0].forge.project is not valid: it must be a repository with its owner: write it like "retail/estate", without ".git"`},
	"agent/forge-project-git":                {want: `F:8:65: spec.sources[0].forge.project is not valid: it must be the name that the forge shows: write it like "retail/estate", without ".git"`, beyond: true},
	"agent/forge-token":                      {want: `F:8:80: unknown field "token": AgentConfig.spec.sources[0].forge has no such field: did you mean "tokenFile"?`},
	"agent/forge-type":                       {want: `F:8:21: spec.sources[0].forge.type is not valid: it must be one of gitea, github, gitlab: did you mean "gitea"?`},
	"agent/forge-url":                        {want: `F:8:33: spec.sources[0].forge.url is not valid: it must be an http or https address, without user name, password or query: write it like "https://git.example"`},
	"agent/governance-missing":               {want: `F:3:1: missing field "source": there are several sources, and one of them declares the estate: add "source:" to governance with the name of one of them`, beyond: true},
	"agent/governance-unknown":               {want: `F:15:13: unknown source "other": no source of that name is in this file: name one of the sources`, beyond: true},
	"agent/home":                             {want: `F:4:12: spec.dataDir is not valid: it must be the name of a file or folder: write it absolute, or relative to the folder of this file; "~" is not expanded`},
	"agent/kind":                             {want: `F:2:7: kind is "Environment": this file says how the agent runs, and never what it deploys: write kind: AgentConfig`, beyond: true},
	"agent/limits":                           {want: `F:15:16: spec.limits.fileBytes is not valid: it must be a whole number: write it in digits, like 10, without quotes`},
	"agent/listen":                           {want: `F:14:11: spec.listen is not valid: it must be host:port: write it like "127.0.0.1:8780"`},
	"agent/listen-port":                      {want: `F:14:11: spec.listen is not valid: a port is a number from 0 to 65535: write it like "127.0.0.1:8780"`, beyond: true},
	"agent/password":                         {want: `F:9:9: unknown field "password": AgentConfig.spec.sources[0].auth has no such field: did you mean "passwordFile"?`},
	"agent/second-document":                  {want: `F:15:1: second document: this file holds one AgentConfig: remove it`, beyond: true},
	"agent/source-twice":                     {want: `F:8:13: source "estate" is there twice: declarations refer to it by its name: rename one of the two`, beyond: true},
	"agent/sources-empty":                    {want: `F:5:12: spec.sources is an empty list: a list that is written has at least one item: add an item or remove the field`},
	"agent/trust-commit":                     {want: `F:15:21: spec.governance.trust.commit is not valid: it must be the full id of a commit: write its 40 hexadecimal digits, as "git rev-parse HEAD" prints them`},
	"agent/trust-key":                        {want: `F:16:20: key is not valid: not a public key in the form "TYPE BASE64": write it as the ".pub" file has it`, beyond: true},
	"agent/trust-key-empty":                  {want: `F:16:14: key is missing: each item of keys is one public key: add "ssh:" or "openpgp:"`, beyond: true},
	"agent/trust-key-twice":                  {want: `F:18:16: key is there twice: it is already at F:17:16, and would count twice: remove one of the two`, beyond: true},
	"agent/trust-nowhere":                    {want: `F:15:5: trust begins nowhere: it says neither onFirstUse: true, nor a commit, nor keys: add one of them, or remove trust`, beyond: true},
	"agent/trust-threshold":                  {want: `F:17:18: threshold is larger than the number of keys: there is 1, so nothing could ever be trusted: lower it, or add keys`, beyond: true},
	"agent/trust-threshold-alone":            {want: `F:15:42: threshold without keys: it counts signatures of keys: add "keys:", or remove it`, beyond: true},
	"agent/trust-ways":                       {want: `F:15:5: trust begins in several ways: the weakest of them would decide: keep one of onFirstUse, commit and keys`, beyond: true},
	"agent/url-anchor":                       {want: `F:12:5: not YAML: an alias (*) names an anchor that is not there: correct this line or the one before it`},
	"agent/url-form":                         {want: `F:12:10: spec.audit.url is not valid: it must be the address of a Git repository: write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`},
	"agent/url-host":                         {want: `F:12:10: spec.audit.url is not valid: it lacks a host or a path: write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, beyond: true},
	"agent/url-password":                     {want: `F:7:12: spec.sources[0].url is not valid: it has a user name or password in it, and credentials are given as files only (auth): write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, beyond: true},
	"agent/url-query":                        {want: `F:12:10: spec.audit.url is not valid: it has a "?" or "#" part, where tokens leak into logs: write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, beyond: true},
	"agent/url-ssh-password":                 {want: `F:12:10: spec.audit.url is not valid: it has a user name or password in it, and credentials are given as files only (auth): write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, beyond: true},
	"agent/url-token":                        {want: `F:12:10: spec.audit.url is not valid: it has a user name or password in it, and credentials are given as files only (auth): write it like "https://git.example/estate.git", "ssh://git@git.example/estate.git" or "file:///srv/git/estate.git"`, beyond: true},
	"agent/webhook-secret":                   {want: `F:9:9: unknown field "secret": AgentConfig.spec.sources[0].webhook has no such field: did you mean "secretFile"?`},
	"declaration/alias":                      {want: `F:12:14: alias: declarations are read without anchors and aliases, so that each says what it means where it stands: write the value out`, beyond: true},
	"declaration/anchor-unknown":             {want: `F:10:3: not YAML: an alias (*) names an anchor that is not there: correct this line or the one before it`},
	"declaration/bool-text":                  {want: `F:11:14: spec.reconcile.suspend is "yes": it must be true or false: write true or false, without quotes`},
	"declaration/bot-governance":             {want: `F:19:11: bot "release-bot" has the role "governance-owner": this role approves changes of the declarations, which only people do: remove the role, or let governance.approvals of the Estate name another`, beyond: true},
	"declaration/branch":                     {want: `F:10:13: spec.source.branch is "a..b": Git allows no branch of that name: write it like "main" or "release/18", without "refs/heads/"`, beyond: true},
	"declaration/branch-ref":                 {want: `F:10:13: spec.source.branch is "refs/heads/main": it must be the name of a branch, not of a ref: write it like "main" or "release/18", without "refs/heads/"`, beyond: true},
	"declaration/calendar-backwards":         {want: `F:6:56: end is "2026-11-26T00:00": it is not after the start, "2026-12-01T06:00": correct one of them`, beyond: true},
	"declaration/calendar-class":             {want: `F:6:83: unknown class "emergncy": no class of that name is declared: did you mean "emergency"?`, beyond: true},
	"declaration/calendar-date":              {want: `F:6:33: spec.freezes[0].start is "2026-11-26": it must be a day and a time of day, local and so without a zone: write it like 2026-11-26T00:00; the zone is the calendar's`},
	"declaration/calendar-empty":             {want: `F:4:1: empty calendar: it has neither freezes nor windows: add one, or remove the calendar`, beyond: true},
	"declaration/calendar-exempt-window":     {want: `F:6:83: window "day" is for class "fix", which is exempt from calendars: no window holds for this class: remove one of the two`, beyond: true},
	"declaration/calendar-impossible":        {want: `F:6:33: start is "2026-02-30T00:00": there is no such date or time of day: write it like "2026-11-26T06:00"`, beyond: true},
	"declaration/calendar-in-flight":         {want: `F:6:84: spec.freezes[0].inFlight is "stop": it must be one of finish, pause, rollBack: choose another value`},
	"declaration/calendar-names":             {want: `F:8:14: name is "peak": freezes[0] has the same name: rename one of them`, beyond: true},
	"declaration/calendar-never-opens":       {want: `F:7:13: a class may never release: freezes cover all of its windows: move the window, or exempt the class from a freeze`, beyond: true},
	"declaration/calendar-repeat":            {want: `F:6:82: repeat is "FREQ=SOMETIMES": FREQ=SOMETIMES is not possible: correct it (RFC 5545)`, beyond: true},
	"declaration/calendar-repeat-impossible": {want: `F:6:82: repeat is "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30": it never occurs: correct the rule: no day is as it says`, beyond: true},
	"declaration/calendar-too-short":         {want: `F:6:32: class "high" cannot be satisfied: calendar "retail", which environments of the class have, never stays open for so long: ask for less, or widen a window`, beyond: true},
	"declaration/calendar-unknown":           {want: `F:8:13: unknown calendar "retial": no calendar of that name is declared: did you mean "retail"?`, beyond: true},
	"declaration/calendar-unknown-default":   {want: `F:5:24: unknown calendar "retail": no calendar of that name is declared: declare it`, beyond: true},
	"declaration/calendar-window-class":      {want: `F:6:83: unknown class "standard": no class of that name is declared: name one of: low`, beyond: true},
	"declaration/calendar-zone":              {want: `F:5:13: time zone is "Europe/Berln": there is no such time zone: write an IANA name like "Europe/Berlin" or "UTC"`, beyond: true},
	"declaration/calendar-zone-missing":      {want: `F:4:1: missing field "timeZone": Calendar.spec needs it: add "timeZone:"`},
	"declaration/calendar-zoned":             {want: `F:6:33: spec.freezes[0].start is "2026-11-26T00:00Z": it must be a day and a time of day, local and so without a zone: write it like 2026-11-26T00:00; the zone is the calendar's`},
	"declaration/cel-block":                  {want: `F:11:37: expression is not valid: found no matching overload for 'startsWith' applied to 'string.(int)': compare or combine values of types that go together`, beyond: true},
	"declaration/cel-classification":         {want: `F:8:39: expression is not valid: found no matching overload for '_==_' applied to '(string, int)': compare or combine values of types that go together`, beyond: true},
	"declaration/cel-empty":                  {want: `F:9:19: expression is not valid: the expression is empty: write one that is true or false`, beyond: true},
	"declaration/cel-field":                  {want: `F:9:63: expression is not valid: undefined field 'purpos': the fields of environment are class, cluster, name, namespace, purpose, tenant`, beyond: true},
	"declaration/cel-folded":                 {want: `F:12:18: expression is not valid: undefined field 'image': the fields of release are change, images, migration, modules, version`, beyond: true},
	"declaration/cel-function":               {want: `F:9:47: expression is not valid: expressions do not have the function "replace": use split, startsWith, endsWith, contains or matches`, beyond: true},
	"declaration/cel-long":                   {want: `F:9:20: expression is not valid: the expression has 4804 characters: it may have 4096: split it into several`, beyond: true},
	"declaration/cel-release":                {want: `F:9:19: expression is not valid: undeclared reference to 'object': the variables of this release rule are objects, environment, tenant, release`, beyond: true},
	"declaration/cel-result":                 {want: `F:9:19: expression is not valid: its result is of type dyn, not true or false: its value is known only when it is evaluated: compare it, as in "… == true"`, beyond: true},
	"declaration/cel-syntax":                 {want: `F:9:33: expression is not valid: Syntax error: mismatched input '<EOF>': correct it (CEL)`, beyond: true},
	"declaration/cel-type":                   {want: `F:9:77: expression is not valid: found no matching overload for '_==_' applied to '(int, string)': compare or combine values of types that go together`, beyond: true},
	"declaration/cel-variable":               {want: `F:9:19: expression is not valid: undeclared reference to 'objects': the variables of this object rule are object, oldObject, environment, tenant, release`, beyond: true},
	"declaration/check-twice":                {want: `F:14:15: health check "web" is declared twice: it is already declared at F:12:15: rename one of the two`, beyond: true},
	"declaration/check-twice-estate":         {want: `F:11:17: health check "web" is declared twice: it is already declared at F:9:17: rename one of the two`, beyond: true},
	"declaration/class":                      {want: `F:8:10: unknown class "high": no class of that name is declared: name one of: low`, beyond: true},
	"declaration/class-approvals-empty":      {want: `F:6:14: spec.approvals is an empty list: a list that is written has at least one item: add an item or remove the field`},
	"declaration/class-author-only":          {want: `F:20:3: class "high" cannot be satisfied: nobody approves what they wrote, and whoever can sign a change (release-manager-1) is needed to approve it: declare another Person with a key, or ask for fewer approvals`, beyond: true},
	"declaration/class-count":                {want: `F:13:23: spec.approvals[0].count is "0": it must be at least 1: choose another value`},
	"declaration/class-near":                 {want: `F:8:10: unknown class "hgih": no class of that name is declared: did you mean "high"?`, beyond: true},
	"declaration/class-no-author":            {want: `F:11:1: class "high" cannot be satisfied: authors are known by their signatures, and no Person has a key for commits: declare a Person with "keys:"`, beyond: true},
	"declaration/class-no-signer":            {want: `F:13:15: class "high" cannot be satisfied: its commits must be signed, and no Person has a key for that: declare a Person with "keys:"`, beyond: true},
	"declaration/class-role":                 {want: `F:6:34: unknown role "release-manger": the estate has no role of that name (spec.roles of the Estate): did you mean "release-manager"?`, beyond: true},
	"declaration/class-role-test":            {want: `F:6:86: unknown role "tester": the estate has no role of that name (spec.roles of the Estate): name one of: developer, release-manager, dba, governance-owner, store-operations`, beyond: true},
	"declaration/class-short":                {want: `F:22:7: class "high" cannot be satisfied: nobody can approve as dba: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-bot":            {want: `F:21:15: class "high" cannot be satisfied: nobody can approve as release-manager: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-count":          {want: `F:20:15: class "high" cannot be satisfied: it needs 2 different people who can approve as dba or release-manager, and there is only 1: release-manager-1: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-revoked":        {want: `F:22:15: class "high" cannot be satisfied: nobody can approve as dba: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-three":          {want: `F:30:7: class "high" cannot be satisfied: it needs 3 different people who can approve as dba or release-manager, and there are only 2: dba-1, release-manager-1: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-together":       {want: `F:22:7: class "high" cannot be satisfied: it needs 2 different people who can approve as dba or release-manager, and there is only 1: release-manager-1: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-short-use":            {want: `F:22:15: class "high" cannot be satisfied: nobody can approve as dba: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/class-test-nobody":          {want: `F:14:78: class "high" cannot be satisfied: no person with the role developer has a key for statements, so nobody could sign this attestation: declare such a Person, or name other roles`, beyond: true},
	"declaration/class-ticket":               {want: "F:6:20: spec.change.ticket is \"ERP-[\": it cannot be compiled: missing closing ]: `[`: correct the expression (RE2 syntax)", beyond: true},
	"declaration/class-uri":                  {want: `F:13:27: spec.tests[0].predicateType is "test result": it must be a URI: write it like "https://in-toto.io/attestation/test-result/v0.1"`},
	"declaration/classification-class":       {want: `F:5:64: unknown class "high": no class of that name is declared: name one of: low`, beyond: true},
	"declaration/classification-twice":       {want: `F:7:14: classification "payments" is declared twice: it is already declared at F:6:14: rename one of the two`, beyond: true},
	"declaration/cluster-kind-star":          {want: `F:8:13: spec.clusterKinds[0].kind is "*": it must be a kind of the Kubernetes API: write it like "ClusterRole"`},
	"declaration/cycle":                      {want: `F:29:15: dependsOn goes in a circle: a -> b -> c -> a, and each would wait for the next forever: remove one of these dependencies`, beyond: true},
	"declaration/declared-twice":             {want: `F:14:9: Environment "dev" is declared twice: it is already declared at F:4:9: rename or remove one of the two`, beyond: true},
	"declaration/deep":                       {want: `F:10:36: nested too deeply: a document may have 32 levels: remove the superfluous levels`},
	"declaration/defaults-class":             {want: `F:5:21: unknown class "standard": no class of that name is declared: name one of: low`, beyond: true},
	"declaration/depends-on-itself":          {want: `F:10:15: environment "dev" depends on itself: it would wait for itself forever: remove the dependency`, beyond: true},
	"declaration/document-is-list":           {want: `F:1:1: document is a list: it must be fields with values: write "name: value" lines, indented below it`},
	"declaration/document-is-text":           {want: `F:1:1: document is a text: it must be fields with values: write "name: value" lines, indented below it`},
	"declaration/duplicate-field":            {want: `F:10:3: duplicate field "namespace": it is already in line 7: keep one of the two`, beyond: true},
	"declaration/duplicate-item":             {want: `F:10:19: spec.dependsOn[1] is "qa": the list has it already in line 10: remove one of the two`},
	"declaration/duplicate-label":            {want: `F:5:20: duplicate field "a": it is already in line 5: keep one of the two`, beyond: true},
	"declaration/duration-days":              {want: `F:11:15: spec.reconcile.interval is "1d": it must be a duration, which has a unit: write it like "90s", "10m" or "1h30m"`},
	"declaration/duration-negative":          {want: `F:11:15: spec.reconcile.interval is "-1m": it must be a duration, which has a unit: write it like "90s", "10m" or "1h30m"`},
	"declaration/duration-number":            {want: `F:11:15: spec.reconcile.interval is "10": it must be a duration, which has a unit: write it like "90s", "10m" or "1h30m"`},
	"declaration/duration-short":             {want: `F:11:15: spec.reconcile.interval is "10ms": it must be at least 1s: choose another value`, beyond: true},
	"declaration/duration-unit":              {want: `F:11:15: spec.reconcile.interval is "10 minutes": it must be a duration, which has a unit: write it like "90s", "10m" or "1h30m"`},
	"declaration/empty-document":             {want: `F:11:1: document is empty: nothing is between this "---" and the next, or the end of the file: remove the superfluous "---"`},
	"declaration/empty-file":                 {want: `F:1:1: file is empty: a file of declarations says something: remove the file, or declare something in it`, beyond: true},
	"declaration/empty-list":                 {want: `F:10:14: spec.dependsOn is an empty list: a list that is written has at least one item: add an item or remove the field`},
	"declaration/empty-text":                 {want: `F:6:16: spec.namespaces[0] is empty: Tenant needs it: give it a value`},
	"declaration/enum":                       {want: `F:6:12: spec.purpose is "prod": it must be one of development, qa, uat, staging, preproduction, production, training, peak: did you mean "production"?`},
	"declaration/enum-far":                   {want: `F:10:10: spec.drift is "ignore": it must be one of correct, report: choose another value`},
	"declaration/foreign":                    {want: `F:1:13: apiVersion is "v1": this version of Purser reads purser.dev/v1alpha1: write apiVersion: purser.dev/v1alpha1`},
	"declaration/governance-role":            {want: `F:6:36: unknown role "owner": the estate has no role of that name (spec.roles of the Estate): name one of: developer, release-manager, dba, governance-owner, store-operations`, beyond: true},
	"declaration/governance-short":           {want: `F:6:17: governance cannot be satisfied: nobody can approve as governance-owner: declare further Persons with these roles and a key for statements or a forge account, or ask for fewer`, beyond: true},
	"declaration/governance-signer":          {want: `F:5:28: governance cannot be satisfied: its commits must be signed, and no Person has a key for that: declare a Person with "keys:"`, beyond: true},
	"declaration/group":                      {want: `F:8:14: spec.kinds[0].group is "apps/v1": it must be a group of the Kubernetes API: write it like "apps", without a version; the core group is ""`},
	"declaration/kind-rule":                  {want: `F:8:13: spec.kinds[0].kind is "deployments": it must be a kind of the Kubernetes API, or "*": write it like "Deployment"`},
	"declaration/list-as-key":                {want: `F:10:5: field name is a list: a field of Environment.spec has a name: write a name followed by a colon`},
	"declaration/list-is-text":               {want: `F:10:14: spec.dependsOn is a text: it must be a list: write each item on a line of its own, after "- "`},
	"declaration/mapping-is-list":            {want: `F:8:11: spec.source is a list: it must be fields with values: write "name: value" lines, indented below it`},
	"declaration/mapping-is-text":            {want: `F:8:11: spec.source is a text: it must be fields with values: write "name: value" lines, indented below it`},
	"declaration/merge":                      {want: `F:10:15: merge key "<<": declarations are read without merge keys, so that each says what it means where it stands: write the fields out`},
	"declaration/missing-apiversion":         {want: `F:1:1: missing field "apiVersion": a declaration needs it: add "apiVersion:"`},
	"declaration/missing-enum":               {want: `F:5:1: missing field "purpose": Environment.spec needs it: add "purpose:" with one of development, qa, uat, staging, preproduction, production, training, peak`},
	"declaration/missing-field":              {want: `F:5:1: missing field "namespace": Environment.spec needs it: add "namespace:"`},
	"declaration/missing-kind":               {want: `F:1:1: missing field "kind": a declaration needs it: add "kind:"`},
	"declaration/missing-name":               {want: `F:3:1: missing field "name": Environment.metadata needs it: add "name:"`},
	"declaration/missing-spec":               {want: `F:1:1: missing field "spec": Environment needs it: add "spec:"`},
	"declaration/misspelt-kind":              {want: `F:2:7: kind is "Enviroment": the governance folder declares the estate: did you mean "Environment"?`},
	"declaration/name":                       {want: `F:4:9: metadata.name is "Dev_1": a name has at most 63 lower-case letters, digits and "-", and a letter or digit at both ends (RFC 1123): rename it`},
	"declaration/name-long":                  {want: `F:4:9: metadata.name is "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd": a name has at most 63 lower-case letters, digits and "-", and a letter or digit at both ends (RFC 1123): rename it`},
	"declaration/namespace-class":            {want: `F:21:10: environments "a" and "b" share namespace "a" and differ in class, calendar or promotion: what one keeps out would come in through the other; "a" is declared at F:3:18: give both the same class, calendar and promotion, or one of them another namespace`, beyond: true},
	"declaration/namespace-of-tenant":        {want: `F:7:14: namespace "north-dev" belongs to tenant "north": this environment names no tenant: add "tenant: north", or choose another namespace`, beyond: true},
	"declaration/namespace-outside":          {want: `F:8:14: namespace "south-dev" is outside tenant "north": the tenant may touch north-*, shared: choose one of these, or add it to the tenant at F:12:1`, beyond: true},
	"declaration/namespace-pattern":          {want: `F:6:16: spec.namespaces[0] is "*-north": it must be the name of a namespace, or the beginning of one followed by "*": write it like "north-dev" or "north-*"`},
	"declaration/not-utf8":                   {want: `F:1:1: not YAML: invalid leading UTF-8 octet: correct this line or the one before it`},
	"declaration/null":                       {want: `F:10:3: spec.expires has no value: a field that is named must say something: give it a value or remove the line`},
	"declaration/number-fraction":            {want: `F:11:17: spec.prune.maxObjects is "1.5": it must be a whole number: write it in digits, like 10, without quotes`},
	"declaration/number-is-text":             {want: `F:11:17: spec.prune.maxObjects is "10": it must be a whole number: write it in digits, like 10, without quotes`},
	"declaration/number-large":               {want: `F:11:17: spec.prune.maxObjects is "99999999999999999999": it must be a whole number: write it in digits, like 10, without quotes`},
	"declaration/number-negative":            {want: `F:11:17: spec.prune.maxObjects is "-1": it must be at least 0: choose another value`},
	"declaration/number-octal":               {want: `F:11:17: spec.prune.maxObjects is "010": it must be a whole number: write it in digits, like 10, without quotes`},
	"declaration/only-comments":              {want: `F:1:1: file is empty: a file of declarations says something: remove the file, or declare something in it`, beyond: true},
	"declaration/path-absolute":              {want: `F:9:11: spec.source.path is "/apps/web": it must be a folder below the root of the repository: write it like "apps/odoo/overlays/dev"`},
	"declaration/path-file":                  {want: `F:9:11: "apps/web/kustomization.yaml" is a file: the path of a source is a folder with a kustomization: name the folder`, beyond: true},
	"declaration/path-leaves":                {want: `F:9:11: spec.source.path is "../apps/web": it leaves the repository: write it like "apps/odoo/overlays/dev"`, beyond: true},
	"declaration/path-link-out":              {want: `F:9:11: folder "apps/out" cannot be read: it leads out of the tree: use a relative path that stays inside the repository`, beyond: true},
	"declaration/path-missing":               {want: `F:9:11: no folder "apps/wbe": the environment's manifests are in it: correct the path, or add the folder in the same commit`, beyond: true},
	"declaration/path-unclean":               {want: `F:9:11: spec.source.path is "apps/web/": it has superfluous parts ("./", "//", ".." or a "/" at the end): write it like "apps/odoo/overlays/dev"`, beyond: true},
	"declaration/person-email":               {want: `F:7:12: spec.emails[0] is "developer-1": it must be the address of a mailbox, alone: write it like "developer-1@example.com"`},
	"declaration/person-id-of-two":           {want: `F:15:53: account number 7 of source "estate" belongs to two persons, "developer-1" and "developer-2": it is already declared at F:7:53, and each speaks for one person, once: remove one of the two, or make one Person of the two`, beyond: true},
	"declaration/person-key-both":            {want: `F:8:16: two keys in one item: each item of keys is one public key, with its own validity: make an item of each`, beyond: true},
	"declaration/person-key-empty":           {want: `F:7:7: key is empty: each item of keys is one public key: write the key, or remove the item`, beyond: true},
	"declaration/person-key-garbage":         {want: `F:6:16: key is not valid: not a public key in the form "TYPE BASE64": write it as the ".pub" file has it`, beyond: true},
	"declaration/person-key-neither":         {want: `F:7:7: key is missing: each item of keys is one public key: add "ssh:" or "openpgp:"`, beyond: true},
	"declaration/person-key-never":           {want: `F:9:20: key is never valid: validBefore is not after validAfter: correct one of the two times`, beyond: true},
	"declaration/person-key-of-two":          {want: `F:13:16: key SHA256:EoyWFLOlR1ePlGenJSDXv9SgUHwjgWk2YfVZMIAp0sM belongs to two persons, "developer-1" and "developer-2": it is already declared at F:6:16, and each speaks for one person, once: remove one of the two, or make one Person of the two`, beyond: true},
	"declaration/person-key-openpgp":         {want: `F:7:16: key is not valid: want one block from -----BEGIN PGP PUBLIC KEY BLOCK----- to -----END PGP PUBLIC KEY BLOCK-----: write it as "gpg --armor --export" prints it, after "|"`, beyond: true},
	"declaration/person-key-private":         {want: `F:7:12: key is not valid: this is a private key: write the public half here, and replace the pair, for it has been shown: write it as the ".pub" file has it`, beyond: true},
	"declaration/person-key-twice":           {want: `F:8:12: key SHA256:EoyWFLOlR1ePlGenJSDXv9SgUHwjgWk2YfVZMIAp0sM is there twice: it is already declared at F:7:12, and each speaks for one person, once: remove one of the two, or make one Person of the two`, beyond: true},
	"declaration/person-key-use":             {want: `F:8:14: spec.keys[0].uses[0] is "commit": it must be one of commits, statements: did you mean "commits"?`},
	"declaration/person-login":               {want: `F:7:36: spec.forges[0].login is "@developer-1": it must be the login name of an account: write it as the forge shows it, without "@"`},
	"declaration/person-login-of-two":        {want: `F:15:36: account "Developer-1" of source "estate" belongs to two persons, "developer-1" and "developer-2": it is already declared at F:7:36, and each speaks for one person, once: remove one of the two, or make one Person of the two`, beyond: true},
	"declaration/person-no-key":              {want: `F:4:1: person "developer-1" has no key: nothing could ever be known to come from this person: add "keys:", or "forges:" for somebody who only reviews`, beyond: true},
	"declaration/person-revoked":             {want: `F:8:7: missing field "reason": Person.spec.keys[0].revoked needs it: add "reason:"`},
	"declaration/person-source":              {want: `F:7:21: unknown source "estat": the agent has no source of that name: did you mean "estate"?`, beyond: true},
	"declaration/policy-environment":         {want: `F:5:26: unknown environment "prod": no environment of that name is declared: name one of: dev`, beyond: true},
	"declaration/policy-kinds":               {want: `F:5:11: kinds have no effect in policy "rules": all its rules are about the release as a whole: remove "kinds:", or give a rule the scope object`, beyond: true},
	"declaration/policy-message":             {want: `F:5:11: missing field "message": Policy.spec.rules[0] needs it: add "message:"`},
	"declaration/policy-never":               {want: `F:5:50: policy "rules" never matches environment "dev": its purpose is development and its tenant "default", and every part of match must fit: correct purposes or tenants, or remove the environment`, beyond: true},
	"declaration/policy-no-rules":            {want: `F:4:1: missing field "rules": Policy.spec needs it: add "rules:"`},
	"declaration/policy-purpose":             {want: `F:5:22: spec.match.purposes[0] is "prod": it must be one of development, qa, uat, staging, preproduction, production, training, peak: did you mean "production"?`},
	"declaration/policy-rule-twice":          {want: `F:7:14: rule "r" is declared twice: it is already declared at F:6:14: rename one of the two`, beyond: true},
	"declaration/policy-rules-empty":         {want: `F:5:10: spec.rules is an empty list: a list that is written has at least one item: add an item or remove the field`},
	"declaration/policy-tenant":              {want: `F:5:21: unknown tenant "north": no tenant of that name is declared: declare it`, beyond: true},
	"declaration/promotion-cycle":            {want: `F:17:21: promotion goes in a circle: dev -> qa -> dev, and each would wait for the next forever: remove one of these promotions`, beyond: true},
	"declaration/promotion-from":             {want: `F:8:3: missing field "from": Environment.spec.promotion needs it: add "from:"`},
	"declaration/promotion-itself":           {want: `F:8:21: environment "dev" is promoted from itself: a release would have to run there before it may run there: name the environment that comes before it`, beyond: true},
	"declaration/promotion-missing":          {want: `F:15:10: environment "dev" has no promotion: its class "high" demands that a release ran elsewhere first, so none could ever be approved: add "promotion:" with "from:", or choose another class`, beyond: true},
	"declaration/promotion-unknown":          {want: `F:8:21: unknown environment "quality": no environment of that name is declared: name one of: dev`, beyond: true},
	"declaration/rank-missing":               {want: `F:4:1: missing field "rank": ReleaseClass.spec needs it: add "rank:"`},
	"declaration/rank-of-low":                {want: `F:5:9: class "standard" has rank 0: the built-in class "low" has it, and of two classes one must be the higher: give it another rank`, beyond: true},
	"declaration/rank-twice":                 {want: `F:5:9: class "standard" has rank 10: "high" has it at F:11:9, and of two classes one must be the higher: give it another rank`, beyond: true},
	"declaration/regexp":                     {want: "F:14:15: spec.health.http[0].body is \"(ok\": it cannot be compiled: missing closing ): `(ok`: correct the expression (RE2 syntax)", beyond: true},
	"declaration/reserved-name":              {want: `F:4:9: an Environment cannot be named "governance": the audit log keeps the declarations under that name: give it another name`, beyond: true},
	"declaration/role":                       {want: `F:5:11: unknown role "develper": the estate has no role of that name (spec.roles of the Estate): did you mean "developer"?`, beyond: true},
	"declaration/role-of-estate":             {want: `F:11:11: unknown role "dba": the estate has no role of that name (spec.roles of the Estate): name one of: developer`, beyond: true},
	"declaration/same-target":                {want: `F:19:11: environments "a" and "b" deploy the same path to the same namespace: both would own the same objects; "a" is declared at F:4:9: remove one of the two, or change its cluster, namespace or path`, beyond: true},
	"declaration/second-estate":              {want: `F:9:9: second Estate: the estate is already declared at F:4:9: merge the two`, beyond: true},
	"declaration/share-nan":                  {want: `F:11:15: spec.prune.maxShare is ".nan": it must be a number: write it like 0.5, without quotes`},
	"declaration/share-range":                {want: `F:11:15: spec.prune.maxShare is "50": it must be at most 1: choose another value`},
	"declaration/share-text":                 {want: `F:11:15: spec.prune.maxShare is "50%": it must be a number: write it like 0.5, without quotes`},
	"declaration/status-range":               {want: `F:14:17: spec.health.http[0].status is "20": it must be at least 100: choose another value`},
	"declaration/syntax":                     {want: `F:10:3: not YAML: mapping values are not allowed in this context: correct this line or the one before it`},
	"declaration/syntax-quote":               {want: `F:10:3: not YAML: found unexpected end of stream: correct this line or the one before it`},
	"declaration/syntax-tab":                 {want: `F:11:1: not YAML: found character that cannot start any token: indent with spaces, not with tabs`},
	"declaration/tenants-overlap":            {want: `F:13:23: namespaces "north-sea" of tenant "south" overlap: tenant "north" has "north-*" at F:6:16, and a namespace belongs to one tenant: narrow one of the two`, beyond: true},
	"declaration/text-is-bool":               {want: `F:7:14: spec.namespace is a boolean: it must be a text: put it in quotes: "true"`},
	"declaration/text-is-date":               {want: `F:7:14: spec.namespace is a date: it must be a text: put it in quotes: "2027-01-31"`, beyond: true},
	"declaration/text-is-list":               {want: `F:7:14: spec.namespace is a list: it must be a single value: write one value on the same line`},
	"declaration/text-is-mapping":            {want: `F:7:14: spec.namespace is a mapping: it must be a single value: write one value on the same line`},
	"declaration/text-is-number":             {want: `F:7:14: spec.namespace is a number: it must be a text: put it in quotes: "2024"`},
	"declaration/text-is-tagged":             {want: `F:7:14: spec.namespace is tagged !secret: declarations have no YAML tags: remove the tag`, beyond: true},
	"declaration/time-date":                  {want: `F:10:12: spec.expires is "2027-01-31": it must be a time of a day that exists, with its zone (RFC 3339): write it like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00`},
	"declaration/time-early":                 {want: `F:8:12: spec.expires is "0001-01-01T00:00:00Z": it must be a time after 1969: correct the year`, beyond: true},
	"declaration/time-impossible":            {want: `F:10:12: spec.expires is "2027-02-30T00:00:00Z": it must be a time of a day that exists, with its zone (RFC 3339): write it like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00`},
	"declaration/time-no-zone":               {want: `F:10:12: spec.expires is "2027-02-20T00:00:00": it must be a time of a day that exists, with its zone (RFC 3339): write it like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00`},
	"declaration/unknown-cluster":            {want: `F:7:12: unknown cluster "lba": the agent has no cluster of that name: did you mean "lab"?`, beyond: true},
	"declaration/unknown-environment":        {want: `F:10:15: unknown environment "quality": no environment of that name is declared: name one of: dev`, beyond: true},
	"declaration/unknown-field":              {want: `F:7:3: unknown field "namspace": Environment.spec has no such field: did you mean "namespace"?`},
	"declaration/unknown-field-far":          {want: `F:10:3: unknown field "rollout": Environment.spec has no such field: its fields are purpose, tenant, cluster, namespace, source, class, calendar, promotion, reconcile, drift, prune, health, dependsOn, expires`},
	"declaration/unknown-field-list":         {want: `F:14:9: unknown field "code": Environment.spec.health.http[0] has no such field: its fields are name, url, status, body, cause, timeout`},
	"declaration/unknown-field-top":          {want: `F:10:1: unknown field "status": Environment has no such field: its fields are apiVersion, kind, metadata, spec`},
	"declaration/unknown-kind":               {want: `F:2:7: kind is "BackupPolicy": the governance folder declares the estate: the kinds are Estate, Cluster, Tenant, Environment, Person, ReleaseClass, Calendar, Policy`},
	"declaration/unknown-repository":         {want: `F:9:17: unknown repository "other": the agent has no source of that name: name one of: apps, estate`, beyond: true},
	"declaration/unknown-tenant":             {want: `F:7:11: unknown tenant "nort": no tenant of that name is declared: did you mean "north"?`, beyond: true},
	"declaration/unsupported-apiversion":     {want: `F:1:13: apiVersion is "purser.dev/v1": this version of Purser reads purser.dev/v1alpha1: write apiVersion: purser.dev/v1alpha1`},
	"declaration/url-host":                   {want: `F:13:14: spec.health.http[0].url is not valid: it is not an address: write it like "https://odoo.example/web/health"`, beyond: true},
	"declaration/url-parse":                  {want: `F:13:14: spec.health.http[0].url is not valid: it is not an address: write it like "https://odoo.example/web/health"`, beyond: true},
	"declaration/url-password":               {want: `F:13:14: spec.health.http[0].url is not valid: it has a user name or password in it: write it like "https://odoo.example/web/health"`, beyond: true},
	"declaration/url-scheme":                 {want: `F:13:14: spec.health.http[0].url is not valid: it must be an http or https address: write it like "https://odoo.example/web/health"`},
	"release/attestation-absolute":           {want: `F:5:18: spec.attestations[0] is "/tests.dsse.json": it must be a file beside this one, or below its folder: write it like "attestations/unit-tests.dsse.json"`},
	"release/attestation-folder":             {want: `F:5:18: "apps/web/attestations" is a folder: each attestation is one file: name the files in it`, beyond: true},
	"release/attestation-leaves":             {want: `F:5:18: spec.attestations[0] is "../../shared/tests.dsse.json": it leaves the folder of this file: write it like "attestations/unit-tests.dsse.json"`, beyond: true},
	"release/attestation-link":               {want: `F:5:18: file "apps/web/out.json" cannot be read: it leads out of the tree: use a relative path that stays inside the repository`, beyond: true},
	"release/attestation-missing":            {want: `F:5:18: no file "apps/web/attestations/unit-tests.dsse.json": an attestation lies beside the release that names it: correct the path, or add the file in the same commit`, beyond: true},
	"release/attestation-twice":              {want: `F:5:26: spec.attestations[1] is "a.json": the list has it already in line 5: remove one of the two`},
	"release/attestation-unclean":            {want: `F:5:18: spec.attestations[0] is "./tests.dsse.json": it has superfluous parts ("./", "//", ".." or a "/" at the end): write it like "attestations/unit-tests.dsse.json"`, beyond: true},
	"release/class":                          {want: `F:5:10: spec.class is "High": a name has at most 63 lower-case letters, digits and "-", and a letter or digit at both ends (RFC 1123): rename it`},
	"release/empty":                          {want: `F:1:1: file is empty: a file of declarations says something: remove the file, or declare something in it`, beyond: true},
	"release/kind":                           {want: `F:2:7: kind is "Environment": release.yaml describes a release: write kind: Release`, beyond: true},
	"release/metadata":                       {want: `F:3:1: unknown field "metadata": Release has no such field: its fields are apiVersion, kind, spec`},
	"release/migration":                      {want: `F:5:14: spec.migration is "braking": it must be one of none, additive, breaking: did you mean "breaking"?`},
	"release/module":                         {want: `F:5:13: spec.modules[0] is "sale-pricing": it must be the technical name of an Odoo module: write it like "sale_pricing"`},
	"release/second-document":                {want: `F:6:1: second document: this file holds one Release: remove it`, beyond: true},
	"release/unknown-field":                  {want: `F:6:5: unknown field "tickets": Release.spec.change has no such field: did you mean "ticket"?`},
	"release/version-empty":                  {want: `F:4:12: spec.version is empty: Release needs it: give it a value`},
	"release/version-missing":                {want: `F:3:1: missing field "version": Release.spec needs it: add "version:"`},
	"release/version-number":                 {want: `F:4:12: spec.version is a number: it must be a text: put it in quotes: "18.0"`},
}

func TestBadFixtures(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range fixtures(t, "testdata/*/*.bad.yaml") {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".bad.yaml")
		seen[name] = true
		file, err := parseBad(t, path)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), file, "F"); got != bad[name].want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, bad[name].want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats a secret", name)
		}
	}
	for name := range bad {
		if !seen[name] {
			t.Errorf("%s has no fixture", name)
		}
	}
}

// parseBad reads a fixture as the file that its folder's name says.
func parseBad(t *testing.T, path string) (file string, err error) {
	text := readFile(t, path)
	switch filepath.Base(filepath.Dir(path)) {
	case "release":
		_, err = ParseRelease(tree(t, map[string]string{
			"apps/web/release.yaml": text, "apps/web/attestations/README.md": "", "apps/web/a.json": "{}", "apps/web/out.json": "-> ../../../out.json",
		}), "apps/web")
		return "apps/web/release.yaml", err
	case "agent":
		file = filepath.Join(t.TempDir(), "purser.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = LoadAgent(file)
		return file, err
	}
	name := filepath.Base(path)
	_, err = Parse(estate(t, name, text), "purser", known)
	return "purser/" + name, err
}
