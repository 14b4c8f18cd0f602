# Who may call what: the decisions of the built-in table, to start an own policy from.
#
#   server {
#     experimental {
#       auth_opa_policy_engine {
#         local {
#           rego_path = "conf/policy/policy.rego"
#           policy_data_path = "conf/policy/policy_data.json"
#         }
#       }
#     }
#   }
#
# Asked for each call: data.spire.result, which must hold the five truth values below. `input` has `caller` (the SPIFFE ID
# of a TLS caller), `caller_file_path` (the program of a local caller), `full_method` and, for calls with one message,
# `req`. A policy that fails, or leaves one of the five out, lets nobody in.
package spire

result := {
	"allow": allow,
	"allow_if_local": allow_if_local,
	"allow_if_admin": allow_if_admin,
	"allow_if_downstream": allow_if_downstream,
	"allow_if_agent": allow_if_agent,
}

# The row of data.apis for this call.
method := [row | some row in data.apis; row.full_method == input.full_method][0]

# Anyone.
default allow := false

allow if method.allow_any

# A process that may open the server's socket.
default allow_if_local := false

allow_if_local if method.allow_local

# A caller named in admin_ids, or with an admin entry.
default allow_if_admin := false

allow_if_admin if method.allow_admin

# A caller with a downstream entry.
default allow_if_downstream := false

allow_if_downstream if method.allow_downstream

# An attested agent.
default allow_if_agent := false

allow_if_agent if method.allow_agent
