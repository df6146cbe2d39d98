# Two databases of a cluster that send to one account: the second watch warns, but tells nobody what others have.

use strict;
use warnings;

use ContactSync;
use Test::More;

my $sandbox = start_sandbox();
my $node = start_node();

sub as { my ($role, $db, $sql) = @_; return $node->safe_psql($db, $sql, extra_params => [ '-U', $role ]); }

$node->safe_psql('postgres', 'CREATE ROLE shop LOGIN; CREATE ROLE other LOGIN; CREATE DATABASE one; CREATE DATABASE two');
foreach my $db ('one', 'two')
{
	$node->safe_psql($db, 'CREATE EXTENSION contactsync; GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO shop, other; GRANT CREATE ON SCHEMA public TO shop, other');
}

# Return the warning of a watch of a new table for an account.
sub watch
{
	my ($role, $db, $account) = @_;
	my $name = "${role}_$account";
	my $stderr;

	as($role, $db, qq{
		CREATE SERVER $name FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', base_url '@{[ $sandbox->url ]}/mailingcore', tenant_id '$account');
		CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (api_key 'mc_test_$account');
		CREATE TABLE $name (id int PRIMARY KEY, email text)});
	$node->psql($db, qq{SELECT contactsync_watch('$name', '$name', '{"email": "email", "external_id": "id"}')}, stderr => \$stderr, extra_params => [ '-U', $role ]);
	as($role, $db, qq{INSERT INTO $name VALUES (1, '$db\@example.com'); CALL contactsync_wait('$name')});
	return $stderr;
}

foreach my $account ('a', 'b') { $sandbox->config('mailingcore', { account => $account, keys => { "mc_test_$account" => { scopes => [ 'contacts:read', 'contacts:write' ] } } }); }
is(watch('shop', 'one', 'a'), '', 'the first database of an account');
is(watch('shop', 'two', 'b'), '', 'another account');
is(watch('other', 'two', 'a'), '', 'a role is told nothing of what another one has');
my $warning = watch('shop', 'two', 'a');
like($warning, qr/WARNING:  database "one" sends to the account of server "shop_a", too/, 'the second database of a role warns');
like($warning, qr/HINT:  Map external_id to an expression that differs, such as 'two-' \|\| id, or give each database an account of its own\./, 'and says what to do');
is($sandbox->contacts('mailingcore', account => 'a')->[0]{email}, 'two@example.com', 'which is needed: equal IDs are one contact');

done_testing();
