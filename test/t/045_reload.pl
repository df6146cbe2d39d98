# Calls in flight survive a change of definitions: of what has not changed nothing is repeated, and of what has changed an
# answer that arrives is an answer.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();
my %options = (pace => 1000, burst => 1000, concurrency => 16, new_contacts => 'unsubscribed');

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql"); }

# Requests that name the address, as "POST /contacts".
sub requests
{
	my ($provider, $email, $account) = @_;

	return join(', ',
		map { $_->{method} . ' ' . $_->{path} =~ s{.*(?=/)}{}r }
		grep { grep { $_ eq $email } @{ $_->{keys} } } @{ $sandbox->journal($provider, account => $account) });
}

sub names { my ($provider, $account) = @_; return join(',', sort map { $_->{email_address} // $_->{email} } @{ $sandbox->contacts($provider, account => $account) }); }

# Have all calls of a provider wait until clear_faults().
sub stall { my ($provider, $account) = @_; $sandbox->fault($provider, { times => undef, match => { account => $account, method => 'POST' }, action => { stall => \1 } }); return; }

sub wait_for_flight
{
	my ($provider, $account, @emails) = @_;

	$sandbox->wait_for_journal($provider,
		sub { my @flying = grep { $_->{in_flight} } @_; @emails == grep { my $email = $_; grep { grep { $_ eq $email } @{ $_->{keys} } } @flying } @emails },
		account => $account);
	return;
}

create_server($node, $sandbox, 'campaignlark', account => 'slow', server => \%options);
create_server($node, $sandbox, 'campaignlark', account => 'other', server => \%options);
sql(q{
	CREATE ROLE clerk;
	CREATE TABLE customers (id int PRIMARY KEY, email text, first_name text, topic text);
	CREATE TABLE orders (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
	CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
	CREATE TABLE visitors (id int PRIMARY KEY, email text);
	SELECT contactsync_watch('customers', 'slow', '{"email": "email", "first_name": "first_name"}');
	SELECT contactsync_watch('orders', 'other', '{"email": "email"}');
});

# Change a definition, and wait until the worker has sent something since, for which it reads definitions first.
my $proof = 0;

sub change_definition
{
	my ($sql) = @_;

	sql($sql);
	$proof++;
	sql("SELECT contactsync_upsert('other', '{\"email\": \"proof$proof\@example.com\"}')");
	wait_for('a later contact to arrive', sub { names('campaignlark', 'other') =~ /\bproof$proof@/ });
	return;
}

#
# What has not changed
#

my @unrelated = (
	q{SELECT contactsync_watch('visitors', 'other', '{"email": "email"}')},
	q{ALTER SERVER other OPTIONS (ADD max_retries '3')},
	q{INSERT INTO visitors VALUES (1, 'v1@example.com'); SELECT contactsync_import('visitors', 'other')},
	q{CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200)},
	q{SELECT contactsync_forget('nobody@example.com')},
	q{GRANT USAGE ON FOREIGN SERVER other TO clerk; CREATE USER MAPPING FOR clerk SERVER other OPTIONS (api_key 'cl_other');
	  SET ROLE clerk; SELECT contactsync_upsert('other', '{"email": "clerk@example.com"}')},
	q{SELECT contactsync_forget('v1@example.com')},
	q{SELECT contactsync_unwatch('visitors', 'other')},
	q{ALTER TABLE orders ADD COLUMN note text},
	q{SELECT contactsync_pause('other'); SELECT contactsync_resume('other')},
	q{SELECT contactsync_mark_stale('other')});

stall('campaignlark', 'slow');
sql(q{INSERT INTO customers SELECT i, format('c%s@example.com', i), 'A' FROM generate_series(1, 5) i});
my @emails = map { "c$_\@example.com" } 1 .. 5;
wait_for_flight('campaignlark', 'slow', @emails);
my $since = $sandbox->journal('campaignlark', account => 'slow')->[-1]{seq};
change_definition($_) foreach @unrelated;
is(scalar(grep { $_->{in_flight} } @{ $sandbox->journal('campaignlark', account => 'slow') }), 5, 'all calls are still in flight');
sql(q{UPDATE customers SET first_name = 'B' WHERE id = 1});
$sandbox->clear_faults('campaignlark');
sql(q{CALL contactsync_wait('slow')});
is(names('campaignlark', 'slow'), join(',', @emails), 'all contacts arrive');
is(requests('campaignlark', $_, 'slow'), join(', ', ('POST /upsert') x ($_ eq 'c1@example.com' ? 2 : 1)), "$_ is requested once for each of its values")
  foreach @emails;

$node->stop;
done_testing();
