# Values get the types that the fields have at CampaignLark, which are learned when the watch is created or its mapping changes. The
# watch belongs to a role that owns nothing but the table and the server.

use strict;
use warnings;

use ContactSync;
use JSON::PP;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node('shared_preload_libraries' => '');

$node->safe_psql('postgres', 'CREATE EXTENSION contactsync; CREATE ROLE shop; CREATE SCHEMA shop AUTHORIZATION shop');
create_server($node, $sandbox, 'campaignlark', account => 'lark', role => 'shop', server => { check_fields => undef });

sub sql { return $node->safe_psql('postgres', "SET SESSION AUTHORIZATION shop; SET client_min_messages = error; $_[0]"); }
sub settle { return sql("$_[0]; CALL contactsync_run()"); }
sub fields { my ($contact) = grep { $_->{email_address} eq $_[0] } @{ $sandbox->contacts('campaignlark', account => 'lark') }; return $contact ? $contact->{fields} : undef; }
sub failures { return sql('SELECT key, reason, message FROM contactsync.failures ORDER BY key'); }
sub number { my ($value) = @_; return defined $value && encode_json([$value]) !~ /"/; }

# Add fields to the workspace: merge tag => type.
sub define
{
	my %type = @_;

	$sandbox->config('campaignlark', { account => 'lark', fields => {
		map { $_ => { id => 0, label => $_, merge_tag => $_, type => $type{$_}, definition => undef, default_value => undef, order => 0,
			immutable => JSON::PP::false, required => JSON::PP::false, tracked => JSON::PP::true } } keys %type } });
	return;
}

define(external_id => 'NUMBER', day => 'DATE', moment => 'DATE', later => 'DATE', zip => 'TEXT', vip => 'TEXT', extra => 'TEXT', score => 'NUMBER', yes => 'BOOL',
	flag => 'BOOLEAN', colour => 'DROPDOWN_SINGLE');

# every type of column that is not what the field is
sql(q{CREATE TABLE people (id int PRIMARY KEY, email text, wants bool, day date, moment timestamp, later text, zip int, vip bool, extra jsonb, score text, yes text,
	flag smallint, colour int);
	SELECT contactsync_watch('people', 'lark', '{"email": "email", "opt_in": "wants", "external_id": "id", "attributes": {"day": "day", "moment": "moment",
		"later": "later", "zip": "zip", "vip": "vip", "extra": "extra->''a''", "score": "score", "yes": "yes", "flag": "flag", "colour": "colour"}}')});
settle(q{INSERT INTO people VALUES (1, 'a@example.com', true, '1990-01-31', '2001-02-03 04:05:06.5', '2010-11-12 13:14+02', 12345, true, '{"a": "x"}', '1.50', 'yes', 1, 7)});
is(failures(), '', 'nothing is refused');
my $fields = fields('a@example.com');
is($fields->{day}, '1990-01-31T00:00:00+00:00', 'a date becomes a time in RFC 3339');
is($fields->{moment}, '2001-02-03T04:05:06.5+00:00', 'so does a timestamp without a time zone');
is($fields->{later}, '2010-11-12T11:14:00+00:00', 'and text that is a time');
is(encode_json([ @$fields{qw(zip vip extra colour)} ]), '["12345","true","x","7"]', 'numbers and booleans become text');
ok(number($fields->{score}) && $fields->{score} == 1.5, 'text becomes a number');
ok(number($fields->{external_id}) && $fields->{external_id} == 1, 'so does external_id');
is(encode_json([ @$fields{qw(yes flag)} ]), '[true,true]', 'text and numbers become booleans');
is(sql(q{SELECT result, detail FROM contactsync_verify('lark') WHERE check_name = 'contact'}), 'ok|', 'contactsync_verify() compares the values as they are sent');

# null stays null, and a value that is none of the type fails alone
settle(q{INSERT INTO people (id, email, wants, score, yes) VALUES (2, 'b@example.com', true, 'many', NULL), (3, 'c@example.com', true, '3', 'perhaps'), (4, 'd@example.com', true, NULL, NULL)});
is(failures(), qq{2|mapping_error|invalid input syntax for type numeric: "many"\n3|mapping_error|invalid input syntax for type boolean: "perhaps"}, 'a value that has no such meaning fails with its row');
is(encode_json(fields('d@example.com')), '{"external_id":4}', 'the others are sent, without nulls');
is(sql(q{SELECT key FROM contactsync.failures EXCEPT SELECT unnest('{2,3}'::text[])}), '', 'and no other row fails');

# what cannot be converted is sent as it is
sql(q{CREATE TABLE lists (id int PRIMARY KEY, email text, wants bool, list text[], at time);
	SELECT contactsync_watch('lists', 'lark', '{"email": "email", "opt_in": "wants", "attributes": {"zip": "list", "day": "at"}}')});
settle(q{INSERT INTO lists VALUES (1, 'l@example.com', true, '{a}', NULL), (2, 'm@example.com', true, NULL, '12:00'), (3, 'n@example.com', true, NULL, NULL)});
is(sql(q{SELECT f.key, f.reason FROM contactsync.failures f WHERE source = 'lists'::regclass ORDER BY 1}), "1|rejected\n2|rejected", 'a list or a time of day is for the provider to refuse');

# the types survive what does not concern the mapping
sql(q{ALTER TABLE people RENAME day TO birthday; SELECT contactsync_alter_watch('people', 'lark', filter => 'id > 0')});
settle(q{UPDATE people SET birthday = '1991-01-31', zip = 54321 WHERE id = 1});
is(join(' ', @{ fields('a@example.com') }{qw(day zip)}), '1991-01-31T00:00:00+00:00 54321', 'a renamed column and another filter keep the types');
is(sql(q{SELECT mapping -> 'attributes' ->> 'day' FROM contactsync.watches WHERE source = 'people'::regclass}), 'birthday', 'the column was followed');

# a field that changes its type there is learned with the next mapping
define(zip => 'NUMBER');
settle(q{UPDATE people SET zip = 11111 WHERE id = 1});
like(failures(), qr/^1\|rejected\|/m, 'another type at CampaignLark is not known');
settle(q{SELECT contactsync_alter_watch('people', 'lark', mapping => (SELECT mapping FROM contactsync.watches WHERE source = 'people'::regclass)); SELECT contactsync_retry('lark')});
ok(number(fields('a@example.com')->{zip}), 'until the watch is altered with its mapping');

# without the check nothing is known, and values are sent as they are
sql(q{SELECT contactsync_unwatch('people', 'lark'); ALTER SERVER lark OPTIONS (ADD check_fields 'false');
	SELECT contactsync_watch('people', 'lark', '{"email": "email", "opt_in": "wants", "attributes": {"day": "birthday"}}')});
settle(q{UPDATE people SET birthday = '1992-01-31' WHERE id = 1});
is(fields('a@example.com')->{day}, '1991-01-31T00:00:00+00:00', 'with check_fields off the date is refused');

$node->stop;
done_testing();
