# The definitions that are shipped, each through the worker and as a role without privileges, against the part of the sandbox
# that is written from the service's pages: requests, consent, errors, throttles.

use strict;
use warnings;

use JSON::PP;
use Shipped;
use Test::More;

start_shipped(qw(brevo loops mailchimp webhook));

# the webhook: one's own service, signed
my $url = $sandbox->url;
$sandbox->config('webhook', { account => 'webhook', secret => 'shh, a secret' });
create('webhook', "base_url '$url/webhook/webhook'", "signing_secret 'shh, a secret'");
people('webhook', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
is(scalar(grep { $_->{status} !~ /^2/ } journal('webhook', 'webhook')), 0, 'webhook: signatures are accepted');
is(scalar(journal('webhook', 'webhook')), 1, 'webhook: in one call');
is_deeply(mailable('webhook', 'webhook'), { 'yes@example.com' => 'mailable', 'left@example.com' => 'mailable', 'no@example.com' => '-', 'silent@example.com' => '-' }, 'webhook: consent is handed on');
settle('webhook', q{INSERT INTO webhook SELECT n, n || '@example.com', 'N', NULL, NULL FROM generate_series(101, 1100) n});
my @calls = journal('webhook', 'webhook');
is((scalar grep { @{ body($_)->{contacts} } > 100 } @calls), 0, 'webhook: batches have 100 contacts at most');
is(scalar(@{ $sandbox->contacts('webhook', account => 'webhook') }), 1004, 'webhook: all arrive');
$sandbox->config('webhook', { account => 'webhook', blocked => ['150@example.com'] });
settle('webhook', q{UPDATE webhook SET plan = 'free' WHERE id BETWEEN 140 AND 160});
is(app(q{SELECT string_agg(key || ' ' || code, ', ') FROM contactsync.failures WHERE server = 'webhook'}), '150 blocked', 'webhook: a contact fails alone');
app(q{SELECT contactsync_ignore(ARRAY(SELECT id FROM contactsync.failures))});
# the same request again has the same ID
$sandbox->fault('webhook', { match => { account => 'webhook' }, times => 1, effect => 'after', action => { status => 503 } });
settle('webhook', q{UPDATE webhook SET name = 'Twice' WHERE id = 1});
my @ids = map { (grep { $_->[0] =~ /^webhook-id$/i } @{ $_->{headers} })[0][1] } (journal('webhook', 'webhook'))[ -2, -1 ];
is($ids[0], $ids[1], 'webhook: a request that is repeated has the same ID');
settle('webhook', q{UPDATE webhook SET wants = false WHERE id = 1; DELETE FROM webhook WHERE id = 4});
is(mailable('webhook', 'webhook')->{'yes@example.com'}, '-', 'webhook: a withdrawal is sent');
is((scalar grep { ($_->{external_id} // '') eq '4' } @{ $sandbox->contacts('webhook', account => 'webhook') }), 0, 'webhook: and a deletion');
check_errors('webhook', 'webhook', 'signing_secret', 'shh, a secret');

# Mailchimp
$sandbox->config('mailchimp', { account => 'mailchimp', keys => { 'key_mailchimp-us1' => {} }, lists => { abc => {} } });
create('mailchimp', "base_url '$url/mailchimp/3.0', data_center 'us1', list_id 'abc'", "api_key 'key_mailchimp-us1'");
my $hash = sql(q{SELECT md5('left@example.com')});
$sandbox->call('POST', 'mailchimp/contacts', { account => 'mailchimp', contacts => [ { email_address => 'left@example.com', id => $hash } ] });
$sandbox->call('POST', 'mailchimp/people', { account => 'mailchimp', email => 'left@example.com', act => 'opt_out' });
people('mailchimp', '{"email": "email", "first_name": "name", "opt_in": "wants", "attributes": {"PLAN": "plan"}}');
my %member = map { $_->{email_address} => $_ } @{ $sandbox->contacts('mailchimp', account => 'mailchimp') };
is_deeply($member{'yes@example.com'}{merge_fields}, { FNAME => 'Yes', PLAN => 'pro' }, 'mailchimp: merge fields');
is($member{'silent@example.com'}{status}, 'transactional', 'mailchimp: who said nothing is transactional');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'mailchimp' AND email = 'left@example.com'}), '1', 'mailchimp: an opt-out that an answer shows is known here');
check_consent('mailchimp', 'mailchimp', 'email_address');
is(resubscribed('mailchimp', 'mailchimp'), 1, 'mailchimp: only the word subscribed somebody again');
check_errors('mailchimp', 'mailchimp', 'api_key', 'key_mailchimp-us1');
# who left by Mailchimp's form cannot be subscribed by the API: the contact fails, and nobody else
settle('mailchimp', q{UPDATE mailchimp SET wants = false WHERE id = 2; UPDATE mailchimp SET wants = true WHERE id = 2});
is(mailchimp_left(), '-', 'mailchimp: the compliance state stands');
sub mailchimp_left { return mailable('mailchimp', 'mailchimp')->{'left@example.com'}; }

# Loops
$sandbox->config('loops', { account => 'loops', keys => { loops_key => {} }, limits => { team => undef } });
create('loops', "base_url '$url/loops/v1'", "api_key 'loops_key'");
$sandbox->call('POST', 'loops/contacts', { account => 'loops', contacts => [ { email => 'left@example.com', subscribed => JSON::PP::false } ] });
people('loops', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "wants", "attributes": {"plan": "plan"}}');
is((scalar grep { $_->{method} eq 'GET' } journal('loops', 'loops')), 3, 'loops: who is not known and does not withdraw is looked up');
check_consent('loops', 'loops', 'email');
check_errors('loops', 'loops', 'api_key', 'loops_key');

# Brevo
$sandbox->config('brevo', { account => 'brevo', keys => { 'xkeysib-brevo' => {} }, limits => { contacts => undef } });
create('brevo', "base_url '$url/brevo/v3', list_id '2'", "api_key 'xkeysib-brevo'");
$sandbox->call('POST', 'brevo/contacts', { account => 'brevo', contacts => [ { email => 'left@example.com', emailBlacklisted => JSON::PP::true, listIds => [2] } ] });
people('brevo', '{"email": "email", "external_id": "id", "first_name": "name", "opt_in": "wants", "attributes": {"PLAN": "plan"}}');
my %contact = map { $_->{email} => $_ } @{ $sandbox->contacts('brevo', account => 'brevo') };
is_deeply($contact{'yes@example.com'}{attributes}, { FIRSTNAME => 'Yes', PLAN => 'pro' }, 'brevo: attributes');
is_deeply($contact{'silent@example.com'}{listIds}, [], 'brevo: who said nothing is in no list');
check_consent('brevo', 'brevo', 'email');
is(app(q{SELECT count(*) FROM contactsync_pull('brevo')}), '1', 'brevo: contacts that changed are listed');
is(app(q{SELECT count(*) FROM contactsync.opt_outs WHERE server = 'brevo' AND email = 'yes@example.com'}), '1', 'brevo: an opt-out among them is known here');
check_errors('brevo', 'brevo', 'api_key', 'xkeysib-brevo');

done_testing();
