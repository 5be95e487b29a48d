# The agent's policy for a pod whose root file systems are images of nexuserofs. Append what
#
#     nexuserofs policy emit --format rego MANIFEST
#
# prints, without its "package" and "import" lines, and put the whole into the initdata as "policy.rego".
#
# It is a frame, and stricter than most pods need: what is not named here is denied. Kata's genpolicy makes rules for
# commands, environment and volumes; its rule allow_storages knows no EROFS, and this takes its place.
package agent_policy

import future.keywords.every
import future.keywords.if
import future.keywords.in

default CreateContainerRequest := false

default ExecProcessRequest := false

default SetPolicyRequest := false

default CopyFileRequest := false

CreateContainerRequest if nexuserofs_allow_container(input)

# The life of a sandbox and of its containers.
default CreateSandboxRequest := true

default DestroySandboxRequest := true

default StartContainerRequest := true

default RemoveContainerRequest := true

default SignalProcessRequest := true

default WaitProcessRequest := true

default StatsContainerRequest := true

default OnlineCPUMemRequest := true

default UpdateInterfaceRequest := true

default UpdateRoutesRequest := true

default ListInterfacesRequest := true

default ListRoutesRequest := true
