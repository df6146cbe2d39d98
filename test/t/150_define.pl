# Providers that are defined by data, through the worker and as a role without privileges: MailingCore and CampaignLark as
# definitions, against the sandbox that holds the C to their documents.

use strict;
use warnings;

use ContactSync;
use File::Basename;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $speed = 20;
my $sandbox = start_sandbox(clock_speed => $speed);
my $node = start_node('contactsync.clock_speed' => $speed);

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub app { return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION app; $_[0]"); }

# Pass the time of the database by SET, so that CALL is a statement of its own.
sub settle { my ($server, $sql) = @_; app("$sql; CALL contactsync_wait('$server')"); return; }

sub definition { my ($name) = @_; return slurp_file(dirname(__FILE__) . "/../definitions/$name.json"); }
sub define { my ($name, $text) = @_; return app('SELECT contactsync_define(' . quote_literal($name) . ', ' . quote_literal($text) . ')'); }
sub contacts { my ($provider, $account) = @_; return @{ $sandbox->contacts($provider, account => $account) }; }

my %seen;

# Return the requests to an account since the last call of this function.
sub requests
{
	my ($provider, $account) = @_;
	my @journal = grep { $_->{seq} > ($seen{$account} // 0) } @{ $sandbox->journal($provider, account => $account) };

	$seen{$account} = $journal[-1]{seq} if @journal;
	return @journal;
}

sub lines { return join(' ', map { "$_->{method} $_->{path} $_->{status}" =~ s{/(mailingcore|v1)(?=/)}{}r } @_); }

sql(q{CREATE EXTENSION contactsync; CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO app; GRANT CREATE ON SCHEMA public TO app});
define('mc', definition('mailingcore'));
define('lark', definition('campaignlark'));

# MailingCore
create_server($node, $sandbox, 'mailingcore', account => 'mc', role => 'app', server => { provider => 'mc', pace => 1000, burst => 1000 });
app(q{
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, locale text, newsletter boolean, plan text);
	SELECT contactsync_watch('customers', 'mc', '{"email": "email", "external_id": "id", "first_name": "first_name", "locale": "locale",
		"opt_in": "newsletter", "attributes": {"plan": "plan"}}', on_delete => 'delete', delete_delay => '0', claims => 'all')});
settle('mc', q{INSERT INTO customers VALUES (1, ' Alice@Example.com=20', 'Alice', 'en-GB', true), (2, 'bob@example.com', NULL, 'pt', NULL)});
my @requests = requests('mailingcore', 'mc');
is(lines(@requests), 'POST /contacts/bulk 200', 'one call for two contacts');
my %row = map { $_->{externalId} => $_ } @{ (ref $requests[0]{body} ? $requests[0]{body} : decode_json($requests[0]{body}))->{contacts} };
is_deeply($row{1}, { email => 'alice@example.com', externalId => '1', locale => 'en', optIn => JSON::PP::true, attributes => { firstName => 'Alice' } },
	'a contact as the page has it');
is_deeply($row{2}, { email => 'bob@example.com', externalId => '2' }, 'what is not known is omitted');
is((grep { $_->[0] =~ /^x-tenant-id$/i } @{ $requests[0]{headers} })[0][1], 'mc', 'the header has the option');

settle('mc', q{INSERT INTO customers SELECT g, format('c%s@example.com', g), 'C', 'es', false, 'pro' FROM generate_series(101, 2600) g});
@requests = requests('mailingcore', 'mc');
is((scalar grep { $_->{status} != 200 } @requests), 0, 'batches are accepted');
cmp_ok(scalar @requests, '<', 10, 'few calls are made');
is(scalar contacts('mailingcore', 'mc'), 2502, 'all arrive');
is(app(q{SELECT count(*) FROM contactsync.changes}), '0', 'nothing is left');

settle('mc', q{UPDATE customers SET newsletter = false WHERE id = 1; UPDATE customers SET plan = 'free' WHERE id = 2; DELETE FROM customers WHERE id = 101});
my ($alice) = grep { ($_->{externalId} // '') eq '1' } contacts('mailingcore', 'mc');
is($alice->{optIn}, JSON::PP::false, 'consent is withdrawn');
is((scalar grep { ($_->{externalId} // '') eq '101' } contacts('mailingcore', 'mc')), 0, 'a contact is deleted');

# faults: one that passes, a throttle, and a contact that is refused
requests('mailingcore', 'mc');
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => 1, action => { status => 503, retry_after => 1 } });
$sandbox->fault('mailingcore', { match => { account => 'mc' }, times => 1, action => { status => 429, retry_after => 1 } });
settle('mc', q{UPDATE customers SET first_name = 'Bob' WHERE id = 2});
is(join(' ', map { $_->{status} } requests('mailingcore', 'mc')), '503 429 200', 'a failure and a throttle pass');
is(app(q{SELECT count(*) FROM contactsync.failures}), '0', 'no contact fails for it');
settle('mc', q{INSERT INTO customers VALUES (3, 'c101@example.com'), (4, 'nonsense'), (5, 'good@example.com'), (6, 'c102@example.com')});
is(app(q{SELECT string_agg(key || ' ' || reason, ', ' ORDER BY key) FROM contactsync.failures}), '4 invalid_email, 6 rejected', 'contacts fail alone, each with its reason');
is((scalar grep { ($_->{externalId} // '') =~ /^[35]$/ } contacts('mailingcore', 'mc')), 2, 'the others arrive');

# contacts that changed there are listed, page by page, and an opt-out among them is known from then on
is(app(q{SELECT contactsync_pull('mc')}), scalar contacts('mailingcore', 'mc'), 'all contacts are listed');
$sandbox->call('POST', 'mailingcore/people', { account => 'mc', email => 'bob@example.com', act => 'opt_in' });
$sandbox->call('POST', 'mailingcore/people', { account => 'mc', email => 'bob@example.com', act => 'opt_out' });
# lists overlap by a minute, which need not have passed
sql(q{UPDATE contactsync.endpoint SET pulled_until = pulled_until + interval '1 min'});
cmp_ok(app(q{SELECT contactsync_pull('mc')}), '<', 10, 'then only those that changed');
is(app(q{SELECT count(*) FROM contactsync.remote_contacts WHERE email = 'bob@example.com' AND NOT opt_in}), '1', 'the opt-out is stored');
settle('mc', q{UPDATE customers SET newsletter = true, first_name = 'B' WHERE id = 2});
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('mc')}), 't', 'contacts are looked up and compared');

# a fault of the configuration halts the server, and burns nothing
requests('mailingcore', 'mc');
app(q{ALTER USER MAPPING FOR app SERVER mc OPTIONS (SET api_key 'wrong')});
app(q{UPDATE customers SET first_name = 'Robert' WHERE id = 2});
$node->poll_query_until('postgres', q{SELECT bool_or(state = 'halted' AND reason LIKE 'unauthorized%') FROM contactsync.status WHERE server = 'mc'}) or die;
pass('a wrong key halts the server');
app(q{ALTER USER MAPPING FOR app SERVER mc OPTIONS (SET api_key 'mc_test_mc')});
settle('mc', 'SELECT 1');
my ($bob) = grep { ($_->{externalId} // '') eq '2' } contacts('mailingcore', 'mc');
is($bob->{attributes}{firstName}, 'Robert', 'the right one resumes it');

# a definition that changes is used from then on, without a restart
my $changed = decode_json(definition('mailingcore'));
$changed->{upsert}[0]{body}{contacts}{'$each'}{attributes}{origin} = 'definition';
define('mc', encode_json($changed));
settle('mc', q{UPDATE customers SET first_name = 'Bobby' WHERE id = 2});
($bob) = grep { ($_->{externalId} // '') eq '2' } contacts('mailingcore', 'mc');
is($bob->{attributes}{origin}, 'definition', 'a changed definition is used at once');
my ($result, $out, $err) = $node->psql('postgres', q{SET SESSION AUTHORIZATION app; SELECT contactsync_undefine('mc')});
like($err, qr/server "mc" uses it/, 'a definition in use is not deleted');

# CampaignLark: a lookup, and steps
create_server($node, $sandbox, 'campaignlark', account => 'lark', role => 'app', server => { provider => 'lark', check_fields => undef, pace => 1000, burst => 1000 });
app(q{
	CREATE TABLE members (id int PRIMARY KEY, email text, first_name text, wants boolean);
	SELECT contactsync_watch('members', 'lark', '{"email": "email", "first_name": "first_name", "opt_in": "wants"}', on_delete => 'unsubscribe', delete_delay => '0')});
$sandbox->call('POST', 'campaignlark/contacts', { account => 'lark', contacts => [ { email_address => 'left@example.com', status => 'UNSUBSCRIBED' } ] });
settle('lark', q{INSERT INTO members VALUES (1, 'new@example.com', 'Ann', true), (2, 'no@example.com', 'Ned', false), (3, 'left@example.com', 'Lee', true), (4, 'silent@example.com', 'Sy', NULL)});
my %status = map { $_->{email_address} => $_->{status} } contacts('campaignlark', 'lark');
is_deeply(\%status, { 'new@example.com' => 'SUBSCRIBED', 'no@example.com' => 'UNSUBSCRIBED', 'left@example.com' => 'UNSUBSCRIBED', 'silent@example.com' => 'UNSUBSCRIBED' },
	'who is new and wants mail is subscribed; who had left there is not, nor is who said nothing');
like(lines(requests('campaignlark', 'lark')), qr{GET /contacts/by-email\?email=silent%40example.com 404}, 'who said nothing is looked up first');
is(scalar(grep { $_->{kind} eq 'resubscribed' } map { @{ $_->{events} } } @{ $sandbox->call('GET', 'campaignlark/mailable', undef, account => 'lark') }), 0, 'nobody is resubscribed');

# the person leaves there: a later change does not bring them back
$sandbox->call('POST', 'campaignlark/people', { account => 'lark', email => 'new@example.com', act => 'opt_out' });
settle('lark', q{UPDATE members SET first_name = 'Anna' WHERE id = 1});
%status = map { $_->{email_address} => $_->{status} } contacts('campaignlark', 'lark');
is($status{'new@example.com'}, 'UNSUBSCRIBED', 'an opt-out there stands');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE email = 'new@example.com'}), '1', 'and is known here from then on');
settle('lark', q{DELETE FROM members WHERE id = 4});
like(lines(requests('campaignlark', 'lark')), qr{GET /contacts/by-email\?email=silent%40example.com 200$}, 'who is unsubscribed is not unsubscribed again');

# verify reads contacts by the definition
is(app(q{SELECT bool_or(result = 'ok') FROM contactsync_verify('lark')}), 't', 'contacts are read back and compared');

# a job that is asked for until it is done, while other calls go on
$sandbox->config('webhook', { account => 'jobs', signed => JSON::PP::false, polls => 3, blocked => ['7@example.com'] });
define('jobs', encode_json({
	title => 'Jobs', auth => { type => 'bearer' }, fields => [qw(email external_id first_name)], identity => 'external_id', required => ['email'],
	consent => { creating => 'nothing' }, limits => { pace => 1000, burst => 1000, concurrency => 4 },
	upsert => [
		{ name => 'begin', method => 'POST', path => '/jobs', batch => 10, success => { at => '/job', exists => JSON::PP::true }, remote => { job => '/job' }, next => 'ask',
			body => { action => 'upsert', contacts => { '$each' => { email => { '$' => 'email' }, external_id => { '$' => 'external_id' }, first_name => { '$' => 'first_name' } } } } },
		{ name => 'ask', method => 'GET', path => '/jobs/{job}', batch => 10, poll => { every => 0.2, times => 20 }, success => { at => '/state', is => 'done' },
			answers => [ { status => 200, if => { at => '/state', is => 'running' }, then => 'retry', poll => JSON::PP::true } ],
			results => { at => '/failed', contact => { index => '/index' }, only_failures => JSON::PP::true, code => '/code', message => '/message' } } ] }));
app("CREATE SERVER jobs FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'jobs', base_url '" . $sandbox->url . "/webhook/jobs'); CREATE USER MAPPING FOR app SERVER jobs OPTIONS (api_key 'jobs_key')");
app(q{CREATE TABLE workers (id int PRIMARY KEY, email text, name text);
	SELECT contactsync_watch('workers', 'jobs', '{"email": "email", "external_id": "id", "first_name": "name"}')});
settle('jobs', q{INSERT INTO workers SELECT n, n || '@example.com', 'N' FROM generate_series(1, 25) n});
is(scalar contacts('webhook', 'jobs'), 24, 'jobs are begun, and asked for until they are done');
is(app(q{SELECT string_agg(key || ' ' || code, ', ') FROM contactsync.failures WHERE server = 'jobs'}), '7 blocked', 'with the results of each contact');
@requests = requests('webhook', 'jobs');
is((scalar grep { $_->{method} eq 'POST' } @requests), 3, 'three jobs');
is((scalar grep { $_->{method} eq 'GET' } @requests), 12, 'each asked for four times');
is(app(q{SELECT max(attempt) FROM contactsync.calls WHERE server = 'jobs'}), '1', 'which uses up no try');
# a job that is lost is begun again
$sandbox->fault('webhook', { match => { account => 'jobs', method => 'GET' }, times => 1, action => { status => 404, body => { message => 'there is no such job' } } });
app(q{UPDATE workers SET name = 'Again' WHERE id = 1});
$node->poll_query_until('postgres', q{SELECT bool_or(state = 'halted') FROM contactsync.status WHERE server = 'jobs'}) or die;
pass('a job that is not there is a wrong URL, for all that the definition says');
app(q{ALTER SERVER jobs OPTIONS (ADD timeout '20s'); SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
settle('jobs', 'SELECT 1');
is((grep { $_->{external_id} eq '1' } contacts('webhook', 'jobs'))[0]{first_name}, 'Again', 'and begun again when that is settled');

# a key in the query is sent, and is nowhere else
$sandbox->config('webhook', { account => 'query', signed => JSON::PP::false, query_key => 'top&secret=1' });
define('query', encode_json({
	title => 'Query', auth => { type => 'query', parameter => 'key' }, fields => [qw(email)], identity => 'email', consent => { creating => 'nothing' },
	upsert => { method => 'POST', path => '', query => { a => 'b' }, may_be_empty => JSON::PP::true, body => { action => 'upsert', contacts => [ { email => { '$' => 'email' } } ] } } }));
app("CREATE SERVER query FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'query', base_url '" . $sandbox->url . "/webhook/query'); CREATE USER MAPPING FOR app SERVER query OPTIONS (api_key 'top&secret=1')");
settle('query', q{SELECT contactsync_upsert('query', '{"email": "first@example.com"}')});
app(q{SELECT contactsync_trace('query', 'q@example.com')});
settle('query', q{SELECT contactsync_upsert('query', '{"email": "q@example.com"}')});
is(scalar contacts('webhook', 'query'), 2, 'the key is accepted');
is(app(q{SELECT count(*) || ' ' || count(*) FILTER (WHERE calls::text ~ 'secret|top%26') FROM contactsync.calls WHERE server = 'query'}), '2 0', 'it is not in the log of calls');
is(app(q{SELECT count(*) || ' ' || count(*) FILTER (WHERE traces::text ~ 'secret|top%26') FROM contactsync.traces}), '1 0', 'nor in a trace');
unlike(slurp_file($node->logfile), qr/top&secret|top%26/, 'nor in the log of the server');

# OAuth: Caramel's upsert, with a token that is renewed
$sandbox->config('caramel', { limits => { ip => undef } });
define('oauth', encode_json({
	title => 'OAuth', base_url => 'https://app.caramelme.com/api/functions/caramel-mcp', auth => { type => 'oauth', token_url => 'https://api.caramelme.com/functions/v1/mcp-oauth' },
	options => { business_id => { help => 'the business', required => JSON::PP::true } }, fields => [qw(email first_name)], identity => 'email', consent => { creating => 'nothing' },
	upsert => { method => 'POST', path => '', success => { at => '/result', exists => JSON::PP::true },
		answers => [ { status => 200, if => { at => '/error/code', is => -32001 }, then => 'reauth' } ],
		body => { jsonrpc => '2.0', id => 1, method => 'tools/call', params => { name => 'caramel.v1.contact.upsert',
			arguments => { business_id => { '$' => 'option.business_id' }, email => { '$' => 'email' }, first_name => { '$' => 'first_name' } } } } } }));
app("CREATE SERVER oauth FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'oauth', business_id 'bus_01h7m9k0aabcdefghj1234567', base_url '" . $sandbox->url
	. "/caramel/mcp', token_url '" . $sandbox->url . "/caramel/token', client_id 'client_sandbox'); CREATE USER MAPPING FOR app SERVER oauth OPTIONS (refresh_token 'rt_sandbox')");
settle('oauth', q{SELECT contactsync_upsert('oauth', '{"email": "o@example.com", "first_name": "O"}')});
is_deeply([ map { $_->{first_name} } contacts('caramel', undef) ], ['O'], 'a token is fetched, and the contact arrives');
isnt(sql(q{SELECT option_value FROM information_schema.user_mapping_options WHERE foreign_server_name = 'oauth' AND option_name = 'refresh_token'}), 'rt_sandbox', 'the refresh token was rotated and stored');

# a dump has the definitions, and a restore has servers that use them
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'the database is dumped');
sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'copy' ], 'and restored');
is($node->safe_psql('copy', q{SET SESSION AUTHORIZATION app; SELECT method, url FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}')}),
	'POST|' . $sandbox->url . '/campaignlark/v1/contacts/upsert', 'the servers of the restored database use the definitions');

done_testing();
